import type { ComponentChildren, JSX } from 'preact';
import type { Problem } from '../session.js';
import { Icon } from './icons.js';

interface Props {
  readonly title: string;
  readonly children?: ComponentChildren;
}

/** Says why there is nothing here, and what would change that. */
export function EmptyState({ title, children }: Props): JSX.Element {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children}
    </div>
  );
}

/** What went wrong, and what to do about it. */
export function Trouble({ problem }: { readonly problem: Problem | null }): JSX.Element | null {
  if (!problem) return null;
  return (
    <div class="trouble" role="alert">
      <Icon name="errors" />
      <p><b>{problem.message}</b>{problem.help && problem.status !== 400 && <> {problem.help}</>}</p>
    </div>
  );
}

/** Lines to copy into a terminal. */
export function Code({ text, label }: { readonly text: string; readonly label: string }): JSX.Element {
  return (
    <div class="code">
      <pre>{text}</pre>
      <CopyButton text={text} label={`Copy: ${label}`} />
    </div>
  );
}

/** Puts a text into the clipboard, and says so. */
export function CopyButton({ text, label, words }: { readonly text: string | (() => string); readonly label: string; readonly words?: string }): JSX.Element {
  const copy = (event: MouseEvent): void => {
    const button = event.currentTarget as HTMLButtonElement;
    void navigator.clipboard.writeText(typeof text === 'string' ? text : text()).then(() => {
      button.dataset['copied'] = 'yes';
      setTimeout(() => delete button.dataset['copied'], 1500);
    });
  };
  return (
    <button type="button" class={words ? 'button copy' : 'icon-button copy'} onClick={copy} aria-label={words ? undefined : label} title={label}>
      <Icon name={words ? 'link' : 'copy'} />{words && <span>{words}</span>}
    </button>
  );
}
