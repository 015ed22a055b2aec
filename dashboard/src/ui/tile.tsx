import type { JSX } from 'preact';
import type { Tile as TileData } from '../api.js';
import { inUnit } from '../format.js';
import { Shape, STATE_WORDS } from './icons.js';
import { Spark } from './spark.js';

interface Props {
  readonly tile: TileData;
  /** What it did. */
  readonly values: readonly (number | null)[];
  /** Where what causes it is shown. */
  readonly href: string;
}

/** A figure with its state in word and shape, its limits in small print, and what it did. */
export function Tile({ tile, values, href }: Props): JSX.Element {
  const { title, value, unit, state, warning, critical, target, direction, note } = tile;
  const sign = direction === 'above' ? '>' : '<';
  const reached = direction === 'above' ? '<' : '>';
  return (
    <a class={`tile is-${state}`} href={href} data-tile={tile.id}>
      <span class="tile-title">{title}</span>
      <span class="tile-value">{inUnit(value, unit)}</span>
      <span class={`tile-state state is-${state}`}><Shape state={state} /> {STATE_WORDS[state]}</span>
      <Spark values={values} limits={{ warning, critical, direction }} label={`${title} in the time that is looked at`} />
      <span class="tile-limits">
        target {target === 0 ? '' : reached}{inUnit(target, unit)} · warning {sign}{inUnit(warning, unit)} · critical {sign}{inUnit(critical, unit)}
        {note && <> · {note}</>}
      </span>
    </a>
  );
}
