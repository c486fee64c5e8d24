// node --import "<this file>?mutation=<name>" program.ts: the program runs with one thing broken on purpose.
// Owns: replacing a module by another, or named text in one, while Node loads it. The tree on disk stays as it is.
// Refuses: guessing. Text that is not there exactly once ends the program: a mutation that changes nothing proves nothing.

import { registerHooks } from 'node:module'
import { applyEdits, type Mutation, MUTATIONS, moduleUrl } from './mutations.ts'
import { POLICY_MUTATIONS } from './policy-mutations.ts'

const name = new URL(import.meta.url).searchParams.get('mutation')
const mutation: Pick<Mutation, 'edits' | 'swap'> | undefined = [...MUTATIONS, ...POLICY_MUTATIONS].find(
  (one) => one.name === name,
)
if (mutation === undefined) throw new RangeError(`no mutation ${name}`)

const { edits = [], swap } = mutation

registerHooks({
  resolve: (specifier, context, next) => {
    const found = next(specifier, context)
    // Its replacement may still import the original.
    if (swap === undefined || found.url !== moduleUrl(swap.module) || context.parentURL === moduleUrl(swap.by))
      return found
    return { ...found, url: moduleUrl(swap.by) }
  },
  load: (url, context, next) => {
    const loaded = next(url, context)
    const own = edits.filter(({ module }) => moduleUrl(module) === url)
    if (own.length === 0) return loaded
    const source = Buffer.from(loaded.source as Uint8Array).toString('utf8')
    return { ...loaded, source: applyEdits(source, own) }
  },
})
