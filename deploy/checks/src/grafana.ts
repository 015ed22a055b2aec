// The dashboards of deploy/grafana, and the types that they are held to: Grafana's own, with two gaps closed.
//
// `@grafana/schema` has enums where JSON has their texts, and open records where each kind of panel has its own options.

import { readFileSync, readdirSync } from 'node:fs';

import type {
  AnnotationQuery,
  Dashboard,
  FieldConfig,
  FieldConfigSource,
  Panel,
  RowPanel,
  TableFieldOptions,
  VariableModel,
} from '@grafana/schema';
import type * as bars from '@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen';
import type * as dial from '@grafana/schema/dist/esm/raw/composable/gauge/panelcfg/x/GaugePanelCfg_types.gen';
import type * as heat from '@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen';
import type * as number from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as states from '@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen';
import type * as rows from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as lines from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

/** What JSON has of a type: the text of an enum, everything else as it is. */
type Plain<T> = T extends string
  ? `${T}`
  : T extends readonly (infer Item)[]
    ? Plain<Item>[]
    : T extends object
      ? { [Key in keyof T]: Plain<T[Key]> }
      : T;

interface Datasource {
  type: 'prometheus';
  uid: string;
}

/** A query as Grafana's Prometheus data source keeps it. */
interface Target {
  refId: string;
  datasource: Datasource;
  editorMode?: 'code' | 'builder';
  expr: string;
  legendFormat?: string;
  format?: 'time_series' | 'heatmap' | 'table';
  range?: boolean;
  instant?: boolean;
}

/** An annotation as the same data source keeps it. */
type Annotation = Omit<Plain<AnnotationQuery>, 'target' | 'datasource'> & {
  datasource: Datasource;
  expr: string;
  step?: string;
  titleFormat?: string;
  textFormat?: string;
  tagKeys?: string;
};

/** A panel of one kind: Grafana fills in the options that are missing. */
type Chart<Kind extends string, Options, Custom> = Omit<
  Plain<Panel>,
  'type' | 'options' | 'targets' | 'fieldConfig' | 'datasource'
> & {
  type: Kind;
  datasource: Datasource;
  options: Partial<Plain<Options>>;
  targets: Target[];
  fieldConfig: Omit<Plain<FieldConfigSource>, 'defaults'> & {
    defaults: Omit<Plain<FieldConfig>, 'custom'> & { custom?: Partial<Plain<Custom>> };
  };
};

type AnyChart =
  | Chart<'timeseries', lines.Options, lines.FieldConfig>
  | Chart<'stat', number.Options, never>
  | Chart<'gauge', dial.Options, never>
  | Chart<'bargauge', bars.Options, never>
  | Chart<'heatmap', heat.Options, heat.FieldConfig>
  | Chart<'state-timeline', states.Options, states.FieldConfig>
  | Chart<'table', rows.Options, TableFieldOptions>;

type Row = Omit<Plain<RowPanel>, 'panels' | 'type'> & { type: 'row'; panels: AnyChart[] };

/** A dashboard of deploy/grafana. */
export type Checked = Omit<Plain<Dashboard>, 'panels' | 'annotations' | 'templating'> & {
  uid: string;
  panels: (AnyChart | Row)[];
  annotations: { list: Annotation[] };
  templating: { list: Plain<VariableModel>[] };
};

/** A file of deploy/grafana/dashboards. */
export interface File {
  name: string;
  board: Checked;
}

const FOLDER = new URL('../../grafana/dashboards/', import.meta.url);

/** Every dashboard that is shipped. What the compiler says of it is another matter: see test/grafana.test.ts. */
export function read(): File[] {
  const names = readdirSync(FOLDER).filter((name) => name.endsWith('.json'));
  return names.map((name) => ({ name, board: JSON.parse(readFileSync(new URL(name, FOLDER), 'utf8')) as Checked }));
}

/** Every panel but rows, those in closed rows too. */
export function charts(board: Checked): AnyChart[] {
  return board.panels.flatMap((panel) => (panel.type === 'row' ? panel.panels : [panel]));
}
