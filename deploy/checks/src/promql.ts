/**
 * What is wrong with a query, as far as it can be told from the metric catalogue.
 *
 * A query of a name or a label that does not exist is no error for Prometheus: it is silent, for ever. So every
 * expression that is shipped is parsed here and held against what the server really shows.
 */

import type { SyntaxNode } from '@lezer/common';
import { parser } from '@prometheus-io/lezer-promql';

import { BUILT_IN, series, TARGET } from './catalogue.js';
import { checkMatcher, type Matcher, readMatchers } from './matchers.js';

/** What is known beside the catalogue. */
export interface Known {
  /** Series of recording rules, with their expressions. */
  readonly recorded?: ReadonlyMap<string, string>;
}

/** A vector's labels; `undefined` where they cannot be told. */
interface Vector {
  readonly labels: ReadonlySet<string> | undefined;
  /** Labels that have one value in all series. */
  readonly fixed: ReadonlyMap<string, string>;
}

const SCALAR = 'scalar';
type Shape = Vector | typeof SCALAR;
const UNKNOWN: Vector = { labels: undefined, fixed: new Map() };

/** Functions that make a cumulative series' value mean something. */
const RATES = new Set(['rate', 'increase', 'irate']);
/** What may be done to a cumulative series beside. */
const HARMLESS = new Set(['resets', 'absent', 'absent_over_time', 'present_over_time', 'count_over_time', 'count', 'group', 'timestamp']);
/** Functions of which the labels of the answer cannot be told here. */
const RELABELLING = new Set(['label_replace', 'label_join', 'absent', 'absent_over_time']);
const SCALARS = new Set(['time', 'scalar', 'pi']);

/** Every problem of a query, in its order; none if there is nothing wrong. Grafana's variables are understood. */
export function problems(query: string, known: Known = {}): string[] {
  const text = withoutVariables(query);
  const reader = new Reader(text, known);
  reader.read();
  return reader.problems;
}

/** What a query asks for: a series and what its labels must be. */
export interface Selector {
  readonly name: string;
  readonly matchers: readonly Matcher[];
}

/** Everything that a query asks for. */
export function selectors(query: string): Selector[] {
  const text = withoutVariables(query);
  const found: Selector[] = [];
  parser.parse(text).iterate({
    enter: ({ name, node }) => {
      const identifier = name === 'VectorSelector' ? node.getChild('Identifier') : null;
      if (identifier) found.push({ name: text.slice(identifier.from, identifier.to), matchers: readMatchers(node, text) });
    },
  });
  return found;
}

/** Grafana's variables: a span where one belongs, a number anywhere else; those in texts are left to the matchers. */
function withoutVariables(query: string): string {
  const spans = query.replace(/\$\{?__(rate_interval|interval|range)(:\w+)?\}?/g, '5m');
  return spans.replace(/"(?:[^"\\]|\\.)*"|\$\{?\w+(:\w+)?\}?/g, (found) => (found.startsWith('"') ? found : '0.95'));
}

class Reader {
  readonly problems: string[] = [];
  private readonly text: string;
  private readonly known: Known;

  constructor(text: string, known: Known) {
    this.text = text;
    this.known = known;
  }

  read(): Shape {
    const tree = parser.parse(this.text);
    let broken = false;
    tree.iterate({ enter: (node) => void (broken ||= node.type.isError) });
    const top = tree.topNode.firstChild;
    if (broken || !top) {
      this.problems.push(`cannot be parsed: ${this.text}`);
      return UNKNOWN;
    }
    return this.shape(top, new Set());
  }

  /** The shape of what a node answers; `inside` are the functions around it. */
  private shape(node: SyntaxNode, inside: ReadonlySet<string>): Shape {
    switch (node.name) {
      case 'NumberDurationLiteral':
      case 'StringLiteral':
        return SCALAR;
      case 'VectorSelector':
        return this.selector(node, inside);
      case 'FunctionCall':
        return this.call(node, inside);
      case 'AggregateExpr':
        return this.aggregate(node, inside);
      case 'BinaryExpr':
        return this.binary(node, inside);
      default: {
        const inner = expressions(node);
        if (inner.length !== 1 || !inner[0]) {
          this.problems.push(`${node.name} is not understood here: ${this.of(node)}`);
          return UNKNOWN;
        }
        return this.shape(inner[0], inside);
      }
    }
  }

  private selector(node: SyntaxNode, inside: ReadonlySet<string>): Vector {
    const identifier = node.getChild('Identifier');
    if (!identifier) {
      this.problems.push(`a selector without a name: ${this.of(node)}`);
      return UNKNOWN;
    }
    const name = this.of(identifier);
    const matchers = readMatchers(node, this.text);
    const fixed = new Map(matchers.filter((one) => one.is === '=').map((one) => [one.label, one.value]));
    const rule = this.known.recorded?.get(name);
    if (rule !== undefined) {
      const shape = new Reader(rule, { recorded: without(this.known.recorded, name) }).read();
      if (shape === SCALAR || !shape.labels) return { ...UNKNOWN, fixed };
      for (const one of matchers) {
        if (!shape.labels.has(one.label)) this.problems.push(`${name} has no label ${one.label}`);
      }
      return { labels: shape.labels, fixed };
    }
    if (BUILT_IN.has(name)) {
      return name.startsWith('ALERTS') ? { ...UNKNOWN, fixed } : { labels: TARGET, fixed };
    }
    const found = series(name);
    if (!found) {
      this.problems.push(`${name} is no metric of the catalogue`);
      return UNKNOWN;
    }
    const labels = new Set([...TARGET, ...Object.keys(found.family.labels), ...(found.isBucket ? ['le'] : [])]);
    for (const one of matchers) {
      this.problems.push(...checkMatcher(name, found, labels, one));
    }
    const rated = [...inside].some((one) => RATES.has(one));
    if (found.isCumulative && !rated && ![...inside].some((one) => HARMLESS.has(one))) {
      this.problems.push(`${name} is cumulative and is used without rate()`);
    }
    if (!found.isCumulative && rated) {
      this.problems.push(`rate() of ${name}, which is no counter`);
    }
    return { labels, fixed };
  }

  private call(node: SyntaxNode, inside: ReadonlySet<string>): Shape {
    const name = this.of(node.getChild('FunctionIdentifier') ?? node);
    const body = node.getChild('FunctionCallBody');
    const around = new Set([...inside, name]);
    const shapes = body ? expressions(body).map((inner) => this.shape(inner, around)) : [];
    if (SCALARS.has(name)) return SCALAR;
    const vector = shapes.find((shape): shape is Vector => shape !== SCALAR);
    if (name === 'histogram_quantile') return this.quantile(node, vector);
    if (RELABELLING.has(name)) return UNKNOWN;
    return vector ?? { labels: new Set(), fixed: new Map() };
  }

  private quantile(node: SyntaxNode, buckets: Vector | undefined): Vector {
    if (!buckets?.labels) return UNKNOWN;
    if (!buckets.labels.has('le')) {
      this.problems.push(`histogram_quantile without le: ${this.of(node)}`);
    }
    return { labels: minus(buckets.labels, ['le']), fixed: buckets.fixed };
  }

  private aggregate(node: SyntaxNode, inside: ReadonlySet<string>): Shape {
    const operation = this.of(node.getChild('AggregateOp') ?? node);
    const body = node.getChild('FunctionCallBody');
    const around = new Set([...inside, operation]);
    const inner = (body ? expressions(body) : []).map((one) => this.shape(one, around));
    const vector = inner.find((shape): shape is Vector => shape !== SCALAR) ?? UNKNOWN;
    if (operation === 'topk' || operation === 'bottomk') return vector;
    const modifier = node.getChild('AggregateModifier');
    const given = modifier ? this.labelNames(modifier.getChild('GroupingLabels')) : [];
    if (modifier?.getChild('Without')) {
      return vector.labels ? { labels: minus(vector.labels, given), fixed: vector.fixed } : UNKNOWN;
    }
    for (const label of given) {
      if (vector.labels && !vector.labels.has(label)) {
        this.problems.push(`by (${label}), which nothing in it has: ${this.of(node)}`);
      }
    }
    const kept = new Map([...vector.fixed].filter(([label]) => given.includes(label)));
    return { labels: new Set(given), fixed: kept };
  }

  private binary(node: SyntaxNode, inside: ReadonlySet<string>): Shape {
    const [left, right] = expressions(node);
    if (!left || !right) return UNKNOWN;
    const a = this.shape(left, inside);
    const b = this.shape(right, inside);
    if (a === SCALAR) return b;
    if (b === SCALAR) return a;
    if (node.getChild('Or')) return { labels: a.labels, fixed: new Map() };
    const clause = node.getChild('MatchingModifierClause');
    const given = clause ? this.labelNames(clause.getChild('GroupingLabels')) : [];
    const on = clause?.getChild('On') !== null && clause !== null;
    const matched = (labels: ReadonlySet<string>): Set<string> =>
      on ? new Set(given) : minus(labels, clause ? given : []);
    if (a.labels && b.labels) this.compare(node, matched(a.labels), matched(b.labels), a, b, on);
    const keepsLeft = node.getChild('And') ?? node.getChild('Unless') ?? clause?.getChild('GroupLeft');
    if (clause?.getChild('GroupRight')) return b;
    return keepsLeft || !a.labels ? a : { labels: matched(a.labels), fixed: a.fixed };
  }

  /** Whether two sides can have series of the same labels. */
  private compare(node: SyntaxNode, a: Set<string>, b: Set<string>, left: Vector, right: Vector, on: boolean): void {
    if (!on) {
      const differing = [...minus(a, b), ...minus(b, a)];
      if (differing.length > 0) {
        this.problems.push(`the two sides cannot match, they differ in ${differing.join(', ')}: ${this.of(node)}`);
      }
    } else {
      for (const label of a) {
        if (!left.labels?.has(label) || !right.labels?.has(label)) {
          this.problems.push(`on (${label}), which a side does not have: ${this.of(node)}`);
        }
      }
    }
    for (const label of a) {
      const [one, other] = [left.fixed.get(label), right.fixed.get(label)];
      if (one !== undefined && other !== undefined && one !== other) {
        this.problems.push(`the two sides cannot match, ${label} is ${one} here and ${other} there: ${this.of(node)}`);
      }
    }
  }

  private labelNames(node: SyntaxNode | null): string[] {
    return node ? node.getChildren('LabelName').map((name) => this.of(name)) : [];
  }

  private of(node: SyntaxNode): string {
    return this.text.slice(node.from, node.to);
  }
}

const EXPRESSIONS = new Set([
  'AggregateExpr',
  'BinaryExpr',
  'FunctionCall',
  'MatrixSelector',
  'NumberDurationLiteral',
  'OffsetExpr',
  'ParenExpr',
  'StepInvariantExpr',
  'StringLiteral',
  'SubqueryExpr',
  'UnaryExpr',
  'VectorSelector',
]);

/** The expressions right below a node. */
function expressions(node: SyntaxNode): SyntaxNode[] {
  const found: SyntaxNode[] = [];
  for (let child = node.firstChild; child; child = child.nextSibling) {
    if (EXPRESSIONS.has(child.name)) found.push(child);
  }
  return found;
}

function minus(labels: Iterable<string>, less: Iterable<string>): Set<string> {
  const taken = new Set(less);
  return new Set([...labels].filter((label) => !taken.has(label)));
}

function without(recorded: ReadonlyMap<string, string> | undefined, name: string): Map<string, string> {
  const rest = new Map(recorded);
  rest.delete(name);
  return rest;
}
