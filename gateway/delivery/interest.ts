// Who wants a key: an index of key ranges, answered in the time of its matches.
// Owns: a treap of ranges ordered by their start, each node knowing how far its subtree reaches.
// Refuses: what stands behind a range; equal ranges share one node with a list of members.
// Cost: add and remove O(log ranges); lookup O(log ranges + matches), whatever the number of members elsewhere.

import type { Key } from '#protocol/bytes.ts'
import type { KeyRange } from '#protocol/decode.ts'

type Node<T> = {
  readonly from: Key
  /** Undefined means to the end of the key space. */
  readonly to: Key | undefined
  readonly priority: number
  readonly members: T[]
  left: Node<T> | undefined
  right: Node<T> | undefined
  /** The furthest `to` in this subtree; undefined means no end. */
  reach: Key | undefined
}

export class InterestIndex<T> {
  #root: Node<T> | undefined
  #size = 0
  #seed = 0x2545_f491

  /** Distinct ranges held. */
  get size(): number {
    return this.#size
  }

  add(range: KeyRange, member: T): void {
    const found = this.#find(range)
    if (found !== undefined) {
      found.members.push(member)
      return
    }
    this.#size++
    const node: Node<T> = {
      from: range.from,
      to: range.to,
      priority: this.#nextPriority(),
      members: [member],
      left: undefined,
      right: undefined,
      reach: range.to,
    }
    this.#root = insert(this.#root, node)
  }

  remove(range: KeyRange, member: T): void {
    const found = this.#find(range)
    if (found === undefined) return
    const at = found.members.indexOf(member)
    if (at < 0) return
    found.members.splice(at, 1)
    if (found.members.length > 0) return
    this.#size--
    this.#root = remove(this.#root, found)
  }

  /** Calls `visit` for every member whose range holds `key`. */
  match(key: Key, visit: (member: T) => void): void {
    if (this.#root !== undefined) stab(this.#root, key, visit)
  }

  #find(range: KeyRange): Node<T> | undefined {
    let node = this.#root
    while (node !== undefined) {
      const order = compare(range, node)
      if (order === 0) return node
      node = order < 0 ? node.left : node.right
    }
    return undefined
  }

  /** xorshift: priorities only have to be independent of the ranges. */
  #nextPriority(): number {
    let x = this.#seed
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    this.#seed = x
    return x >>> 0
  }
}

function stab<T>(node: Node<T>, key: Key, visit: (member: T) => void): void {
  // Nothing below reaches beyond `reach`, which is exclusive.
  if (node.reach !== undefined && node.reach <= key) return
  if (node.left !== undefined) stab(node.left, key, visit)
  if (node.from > key) return
  if (node.to === undefined || node.to > key) for (const member of node.members) visit(member)
  if (node.right !== undefined) stab(node.right, key, visit)
}

function compare(a: KeyRange, b: KeyRange): number {
  if (a.from !== b.from) return a.from < b.from ? -1 : 1
  if (a.to === b.to) return 0
  if (a.to === undefined) return 1
  if (b.to === undefined) return -1
  return a.to < b.to ? -1 : 1
}

function insert<T>(root: Node<T> | undefined, node: Node<T>): Node<T> {
  if (root === undefined) return node
  if (compare(node, root) < 0) {
    root.left = insert(root.left, node)
    if (root.left.priority > root.priority) return rotateRight(root)
  } else {
    root.right = insert(root.right, node)
    if (root.right.priority > root.priority) return rotateLeft(root)
  }
  return measure(root)
}

function remove<T>(root: Node<T> | undefined, node: Node<T>): Node<T> | undefined {
  if (root === undefined) return undefined
  if (root === node) return merge(root.left, root.right)
  if (compare(node, root) < 0) root.left = remove(root.left, node)
  else root.right = remove(root.right, node)
  return measure(root)
}

function merge<T>(left: Node<T> | undefined, right: Node<T> | undefined): Node<T> | undefined {
  if (left === undefined) return right
  if (right === undefined) return left
  if (left.priority > right.priority) {
    left.right = merge(left.right, right)
    return measure(left)
  }
  right.left = merge(left, right.left)
  return measure(right)
}

function rotateRight<T>(root: Node<T>): Node<T> {
  const pivot = root.left as Node<T>
  root.left = pivot.right
  pivot.right = measure(root)
  return measure(pivot)
}

function rotateLeft<T>(root: Node<T>): Node<T> {
  const pivot = root.right as Node<T>
  root.right = pivot.left
  pivot.left = measure(root)
  return measure(pivot)
}

function measure<T>(node: Node<T>): Node<T> {
  let reach = node.to
  if (reach !== undefined && node.left !== undefined) reach = further(reach, node.left.reach)
  if (reach !== undefined && node.right !== undefined) reach = further(reach, node.right.reach)
  node.reach = reach
  return node
}

const further = (a: Key, b: Key | undefined): Key | undefined => (b === undefined || b > a ? b : a)
