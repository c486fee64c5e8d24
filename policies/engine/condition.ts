// CEL conditions: what `when` and `whenSubscriber` may say, and how they are evaluated.
// Owns: the closed list of functions, the bounds, and what an expression reads (found on its syntax tree at load time).
// Refuses: matches() (JavaScript regular expressions backtrack), comprehensions inside comprehensions, and anything whose cost is not
// bounded by the size of the value. An expression that throws says so; what that means for a rule is decide.ts.

import { Environment } from '@marcbachmann/cel-js'
import type { ASTNode } from '@marcbachmann/cel-js'
import { keyFromText, keyToText } from '#protocol/bytes.ts'
import type { Key } from '#protocol/bytes.ts'
import { valueReads } from './condition-reads.ts'
import { Readable } from './readable.ts'
import { MAX_EXPRESSION_CHARS, MAX_EXPRESSION_DEPTH, MAX_EXPRESSION_NODES } from './bounds.ts'
import { globMatches, parseGlob } from './glob.ts'
import type { Glob } from './glob.ts'
import type { Op, Result, Subscriber } from './types.ts'

export type ValueCondition = {
  readonly text: string
  readonly readsValue: boolean
  readonly readsKey: boolean
  /** Throws when the transforms egress applied may have changed what the expression reads: then it must not be asked. */
  readonly readable: Readable
  /** `value` is only called when the expression reads it. Throws when the expression does, or when its result is no boolean. */
  evaluate(op: Op, key: Key, value: () => unknown): boolean
}
export type SubscriberCondition = {
  readonly text: string
  evaluate(subscriber: Subscriber): boolean
}

const FUNCTIONS = new Set(['size', 'has', 'string', 'int', 'double', 'bool', 'glob'])
const METHODS = new Set([
  'startsWith',
  'endsWith',
  'contains',
  'size',
  'lowerAscii',
  'upperAscii',
  'trim',
  'substring',
  'exists',
  'exists_one',
  'all',
])
const COMPREHENSIONS = new Set(['exists', 'exists_one', 'all'])
const MAX_NEEDLE = 128

const limits = {
  maxAstNodes: MAX_EXPRESSION_NODES,
  maxDepth: MAX_EXPRESSION_DEPTH,
  maxListElements: 64,
  maxMapEntries: 16,
  maxCallArguments: 4,
}

export interface ConditionCompiler {
  /** Compiles `when`: op and key are strings, value is the decoded JSON. */
  value(text: string): Result<ValueCondition, string>
  /** Compiles `whenSubscriber`: sees subscriber.{subject, region, org, audiences, scopes, anonymous, labels} and nothing of the event. */
  subscriber(text: string): Result<SubscriberCondition, string>
}

/** One per bundle: environments cost more to make than expressions. */
export function conditionCompiler(): ConditionCompiler {
  const globs = new Map<string, Glob>()
  const values = environment(globs)
    .registerVariable('op', 'string')
    .registerVariable('key', 'string')
    .registerVariable('value', 'dyn')
  const subscribers = environment(globs).registerVariable('subscriber', 'map')
  return {
    value(text) {
      const parsed = compile(values, text, globs)
      return parsed.ok ? { ok: true, value: valueCondition(text, parsed.value) } : parsed
    },
    subscriber(text) {
      const parsed = compile(subscribers, text, globs)
      return parsed.ok ? { ok: true, value: subscriberCondition(text, parsed.value) } : parsed
    },
  }
}

function valueCondition(text: string, { run, reads }: Compiled): ValueCondition {
  const readsValue = reads.has('value')
  const readsKey = reads.has('key')
  return {
    text,
    readsValue,
    readsKey,
    readable: new Readable(readsValue ? valueReads(run.ast) : []),
    evaluate(op, key, value) {
      const context: Record<string, unknown> = { op }
      if (readsKey) context['key'] = textOf(key)
      if (readsValue) context['value'] = value()
      return asBoolean(run(context))
    },
  }
}

function subscriberCondition(text: string, { run }: Compiled): SubscriberCondition {
  return {
    text,
    evaluate({ subject, region, org, audiences, scopes, anonymous, labels }) {
      return asBoolean(
        run({ subscriber: { subject, region, org: org ?? '', audiences, scopes, anonymous, labels: labels ?? {} } }),
      )
    },
  }
}

function environment(globs: ReadonlyMap<string, Glob>): Environment {
  return new Environment({ limits }).registerFunction('glob(string, string): bool', (text: string, pattern: string) => {
    const glob = globs.get(pattern)
    if (glob === undefined) throw new Error('glob() takes a literal pattern')
    return globMatches(glob, keyFromText(text))
  })
}

type Compiled = {
  readonly run: ((context: Record<string, unknown>) => unknown) & { readonly ast: ASTNode }
  readonly reads: ReadonlySet<string>
}

function compile(env: Environment, text: string, globs: Map<string, Glob>): Result<Compiled, string> {
  if (text.length > MAX_EXPRESSION_CHARS)
    return { ok: false, error: `is longer than ${MAX_EXPRESSION_CHARS} characters` }
  try {
    const run = env.parse(text)
    const reads = new Set<string>()
    const refusal = inspect(run.ast, { reads, globs, inside: false })
    if (refusal !== undefined) return { ok: false, error: refusal }
    const checked = run.check()
    if (!checked.valid) return { ok: false, error: oneLine(checked.error) }
    if (checked.type !== 'bool' && checked.type !== 'dyn')
      return { ok: false, error: `must be true or false, not a ${checked.type ?? 'value'}` }
    return { ok: true, value: { run, reads } }
  } catch (e) {
    return { ok: false, error: oneLine(e) }
  }
}

type Walk = { readonly reads: Set<string>; readonly globs: Map<string, Glob>; readonly inside: boolean }

/** The first thing in the tree that is not allowed, as a sentence, or undefined. */
function inspect(node: ASTNode, walk: Walk): string | undefined {
  switch (node.op) {
    case 'value':
      return undefined
    case 'id':
      walk.reads.add(node.args)
      return undefined
    case '.':
      return inspect(node.args[0], walk)
    case '.?':
    case '[?]':
      return 'optional access (.? and [?]) is not offered; use has()'
    case 'call':
      return inspectCall(node.args[0], undefined, node.args[1], walk)
    case 'rcall':
      return inspectCall(node.args[0], node.args[1], node.args[2], walk)
    case 'list':
      return first(node.args, walk)
    case 'map':
      return first(node.args.flat(), walk)
    case '!_':
    case '-_':
      return inspect(node.args, walk)
    case 'in':
      // A scan per element of a scan would be quadratic in the value.
      if (walk.inside && node.args[1].op !== 'list') return '`in` inside a comprehension takes a literal list'
      return first(node.args, walk)
    case '?:':
    case '||':
    case '&&':
    case '[]':
    case '!=':
    case '==':
    case '+':
    case '-':
    case '*':
    case '/':
    case '%':
    case '<':
    case '<=':
    case '>':
    case '>=':
      return first(node.args, walk)
    default: {
      const unknown: never = node
      return `operator ${JSON.stringify((unknown as ASTNode).op)} is not offered`
    }
  }
}

function inspectCall(
  name: string,
  receiver: ASTNode | undefined,
  args: readonly ASTNode[],
  walk: Walk,
): string | undefined {
  if (name === 'matches')
    return 'matches() is refused: a regular expression can take seconds on a short text; use glob(), startsWith() or contains()'
  if (!(receiver === undefined ? FUNCTIONS : METHODS).has(name)) return `${name}() is not offered`
  const argument = args.at(-1)
  if (
    name === 'contains' &&
    !(argument?.op === 'value' && typeof argument.args === 'string' && argument.args.length <= MAX_NEEDLE)
  ) {
    return `contains() takes a literal text of at most ${MAX_NEEDLE} characters`
  }
  if (name === 'glob') {
    if (argument?.op !== 'value' || typeof argument.args !== 'string') return 'glob() takes a literal pattern'
    const glob = parseGlob(argument.args)
    if (!glob.ok) return `glob pattern ${JSON.stringify(argument.args)} ${glob.error}`
    walk.globs.set(argument.args, glob.value)
  }
  if (COMPREHENSIONS.has(name)) {
    if (walk.inside) return `${name}() inside another comprehension is refused`
    const [variable, body] = args
    if (variable?.op !== 'id' || body === undefined || args.length !== 2)
      return `${name}() takes a name and a condition`
    if (['op', 'key', 'value', 'subscriber'].includes(variable.args))
      return `${name}() must not reuse the name ${variable.args}`
    const reads = new Set<string>()
    const refusal = inspect(body, { reads, globs: walk.globs, inside: true })
    if (refusal !== undefined) return refusal
    reads.delete(variable.args)
    // Comparing each element with something of the value's size would again be quadratic.
    if (reads.has('value')) return `the condition of ${name}() may read only ${variable.args}, op, key and literals`
    for (const read of reads) walk.reads.add(read)
    return receiver === undefined ? undefined : inspect(receiver, walk)
  }
  return (receiver === undefined ? undefined : inspect(receiver, walk)) ?? first(args, walk)
}

function first(nodes: readonly ASTNode[], walk: Walk): string | undefined {
  for (const node of nodes) {
    const refusal = inspect(node, walk)
    if (refusal !== undefined) return refusal
  }
  return undefined
}

function textOf(key: Key): string {
  const text = keyToText(key)
  if (text === undefined) throw new Error('the key is not UTF-8')
  return text
}

function asBoolean(result: unknown): boolean {
  if (typeof result !== 'boolean') throw new Error('the condition gave no boolean')
  return result
}

function oneLine(e: unknown): string {
  const text = e instanceof Error ? e.message : String(e)
  return (text.split('\n')[0] ?? '').slice(0, 200)
}
