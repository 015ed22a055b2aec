import type { Locator, Page } from 'playwright-core';
import { expect, it } from 'vitest';
import { token } from './fixture.js';
import { type Lab, looks } from './lab.js';

/** A page: where its server is, its path, and what stands there when it is drawn. */
type Look = readonly [origin: () => string, path: string, ready: string, role?: 'viewer' | 'operator' | 'admin'];

/** A test for each page of a table that looks at it. */
export function lookAt(lab: () => Lab, pages: Readonly<Record<string, Look>>): void {
  for (const [name, [origin, path, ready, role = 'operator']] of Object.entries(pages)) {
    it(`shows ${name} in both themes, wide and narrow`, async () => {
      await looks(lab(), name, `${origin()}${path}#token=${token(role)}`, ready);
      expect(await lab().check()).toEqual([]);
    });
  }
}

/** The lines to be copied that are called so. */
export function codeOf(page: Page, label: string): Locator {
  return page.locator('.code', { has: page.getByRole('button', { name: `Copy: ${label}`, exact: true }) }).locator('pre');
}
