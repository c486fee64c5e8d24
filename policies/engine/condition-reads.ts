// Which places of the value an expression reads, found on its syntax tree at load time.
// Owns: the paths, each meaning the place and everything below it. Does not own: what may stand in an expression (condition.ts).

import type { ASTNode } from '@marcbachmann/cel-js'

/** Decoded names from the root of the value; an element of a list by its index as text. Empty: the whole value. */
export type ReadPath = readonly string[]

/** Errs towards more: an index that is no literal reads the whole list or object it is taken from. */
export function valueReads(ast: ASTNode): readonly ReadPath[] {
  const paths: ReadPath[] = []
  visit(ast, paths)
  return paths
}

function visit(node: ASTNode, paths: ReadPath[]): void {
  const chain = chainOf(node, paths)
  if (chain === undefined) visitAll(node.args, paths)
  else paths.push(chain.path)
}

/** Arguments nest: a node, a list of nodes, a list of pairs of nodes, or plain text. */
function visitAll(args: unknown, paths: ReadPath[]): void {
  if (Array.isArray(args)) for (const arg of args) visitAll(arg, paths)
  else if (typeof args === 'object' && args !== null && 'op' in args) visit(args as ASTNode, paths)
}

/** `open`: the path may go on; closed behind an index that is not known. */
type Chain = { readonly path: ReadPath; readonly open: boolean }

/** Undefined when the node is no access into the value. */
function chainOf(node: ASTNode, paths: ReadPath[]): Chain | undefined {
  if (node.op === 'id') return node.args === 'value' ? { path: [], open: true } : undefined
  if (node.op !== '.' && node.op !== '[]') return undefined
  const base = chainOf(node.args[0], paths)
  if (base === undefined) return undefined
  if (node.op === '.') return base.open ? { path: [...base.path, node.args[1]], open: true } : base
  const index = node.args[1]
  const name = index.op === 'value' ? literalName(index.args) : undefined
  if (name === undefined) visit(index, paths)
  if (!base.open) return base
  return name === undefined ? { path: base.path, open: false } : { path: [...base.path, name], open: true }
}

function literalName(literal: unknown): string | undefined {
  if (typeof literal === 'string') return literal
  return typeof literal === 'bigint' && literal >= 0n ? String(literal) : undefined
}
