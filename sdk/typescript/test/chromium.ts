import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

/** The shell is Chromium without its windows, and needs half the CPU time. */
const NAMES = ['chromium-headless-shell', 'chromium', 'chromium-browser', 'google-chrome'];

/** Where Chromium is: `PULSEWIRE_CHROMIUM`, or the first of the usual names on the PATH. */
function find(): string {
  const own = process.env['PULSEWIRE_CHROMIUM'];
  if (own) return own;
  const folders = (process.env['PATH'] ?? '').split(delimiter);
  for (const path of NAMES.flatMap((name) => folders.map((folder) => join(folder, name)))) {
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // The next one.
    }
  }
  throw new Error('no Chromium on the PATH: install the package `chromium-headless-shell` or `chromium`, or set PULSEWIRE_CHROMIUM');
}

/** How every test starts it. */
export function launchOptions(): { executablePath: string; args: string[]; env: { [name: string]: string | undefined } } {
  // Under the locale C the shell names a language that its own `Intl` refuses.
  return { executablePath: find(), args: ['--no-sandbox'], env: { ...process.env, LC_ALL: 'en_US.UTF-8' } };
}
