// What analyses of canaries ask and decide.
import { at, ofKind, text, trees, type Manifest, type Tree } from './manifests.js';

/** A query of an analysis, and where it stands. */
export interface Query { readonly where: string; readonly query: string }

/** A metric of an `AnalysisTemplate`. */
export interface Metric extends Query { readonly name: string; readonly condition: string; readonly metric: Tree }

/** Every metric that Argo's analyses ask Prometheus for. */
export function metrics(all: readonly Manifest[]): readonly Metric[] {
  return ofKind(all, 'AnalysisTemplate').flatMap((template) => trees(at(template, 'spec', 'metrics')).map((metric) => ({
    name: text(metric, 'name'), condition: text(metric, 'successCondition'), metric,
    where: `AnalysisTemplate/${template.metadata.name} ${text(metric, 'name')}`,
    query: filled(text(metric, 'provider', 'prometheus', 'query')),
  })));
}

/** Every query of Flagger's metrics. */
export function flaggers(all: readonly Manifest[]): readonly Query[] {
  return ofKind(all, 'MetricTemplate').map((template) => ({
    where: `MetricTemplate/${template.metadata.name}`, query: filled(text(template, 'spec', 'query')),
  }));
}

/** A query with values for the variables of Argo and Flagger. */
function filled(query: string): string {
  const values: { readonly [name: string]: string } = { 'args.namespace': 'pulsewire', namespace: 'pulsewire', target: 'pulsewire', interval: '2m' };
  return query.replace(/\{\{\s*([\w.]+)\s*\}\}/g, (_, name: string) => {
    const value = values[name];
    if (value === undefined) throw new Error(`no value for {{ ${name} }}`);
    return value;
  });
}

/** What a condition may be made of: then JavaScript reads it as Argo's expression language does. */
const TOKENS = /^(?:\s+|len\(result\)|isNaN\(result\[0\]\)|result\[0\]|\|\||&&|[()]|<=|>=|==|<|>|\d+(?:\.\d+)?)*$/;

/**
 * Whether a condition holds for what Prometheus answered.
 *
 * @throws Error when the condition uses more than is understood here, or asks for a value that is not there, as Argo does.
 */
export function holds(condition: string, result: readonly number[]): boolean {
  if (!TOKENS.test(condition) || condition.trim() === '') throw new Error(`not understood: ${condition}`);
  const watched = new Proxy([...result], {
    get: (values, member) => {
      if (member === '0' && values.length === 0) throw new Error(`there is no result[0]: ${condition}`);
      return Reflect.get(values, member) as unknown;
    },
  });
  const evaluate = new Function('result', 'len', 'isNaN', `return (${condition});`) as (...values: unknown[]) => unknown;
  return evaluate(watched, () => result.length, Number.isNaN) === true;
}
