import type { ComponentChildren, JSX } from 'preact';
import { useLayoutEffect, useRef, useState } from 'preact/hooks';
import { act, type Problem, problemOf } from '../session.js';
import { Trouble } from './empty.js';
import { Icon } from './icons.js';

interface Props {
  readonly title: string;
  readonly onClose: () => void;
  readonly children: ComponentChildren;
  readonly wide?: boolean;
}

/** A window over the page; Escape closes it, and the keyboard comes back to where it was. */
export function Dialog({ title, onClose, children, wide }: Props): JSX.Element {
  const box = useRef<HTMLDialogElement>(null);
  // Before the next key is heard, so that nothing typed after ⌘K goes to the page behind.
  useLayoutEffect(() => {
    const dialog = box.current;
    dialog?.showModal();
    return () => dialog?.close();
  }, []);
  const outside = (event: MouseEvent): void => {
    if (event.target === box.current) onClose();
  };
  return (
    <dialog ref={box} class={wide ? 'wide' : undefined} aria-label={title} onClick={outside} onCancel={(event) => { event.preventDefault(); onClose(); }}>
      <header><h2>{title}</h2><button type="button" class="icon-button" aria-label="Close" onClick={onClose}><Icon name="close" /></button></header>
      {children}
    </dialog>
  );
}

interface ConfirmProps {
  readonly title: string;
  /** What will happen. */
  readonly children: ComponentChildren;
  /** The word on the button. */
  readonly word: string;
  readonly path: string;
  readonly body: object;
  readonly onClose: () => void;
  readonly onDone?: (answer: unknown) => void;
}

/** Asks before something is done to somebody, does it, and says what came of it. */
export function Confirm({ title, children, word, path, body, onClose, onDone }: ConfirmProps): JSX.Element {
  const [problem, setProblem] = useState<Problem | null>(null);
  const [busy, setBusy] = useState(false);
  const perform = async (): Promise<void> => {
    setBusy(true);
    try {
      const answer = await act(path, body);
      onDone?.(answer);
      onClose();
    } catch (error) {
      setProblem(problemOf(error));
      setBusy(false);
    }
  };
  return (
    <Dialog title={title} onClose={onClose}>
      <div class="dialog-text">{children}</div>
      <Trouble problem={problem} />
      <footer>
        <button type="button" class="button" onClick={onClose}>Cancel</button>
        <button type="button" class="button danger" disabled={busy} onClick={() => void perform()}>{word}</button>
      </footer>
    </Dialog>
  );
}
