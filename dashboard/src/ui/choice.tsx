import type { JSX } from 'preact';
import { choose } from '../router.js';

interface Props {
  readonly label: string;
  /** The parameter of the address that holds it. */
  readonly name: string;
  readonly options: readonly string[];
  readonly value: string | undefined;
  /** What stands for no choice; null: there always is one. Default `nothing`. */
  readonly none?: string | null;
}

/** One of several, kept in the address. */
export function Choice({ label, name, options, value = '', none = 'nothing' }: Props): JSX.Element {
  return (
    <label class="choice"><span>{label}</span>
      <select value={value} onChange={(event) => choose({ [name]: event.currentTarget.value, offset: null, ...(name === 'group' && { sort: null }) })}>
        {none !== null && <option value="">{none}</option>}
        {options.map((option) => <option key={option} value={option}>{option}</option>)}
      </select>
    </label>
  );
}
