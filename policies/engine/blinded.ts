// Rules that a key transform would blind. The gateway sees the key as egress left it; a rule that narrows by looking at a segment which
// another rule replaces could no longer match there, and would let through what it was written to stop.
// Owns: finding such pairs at load time, which refuses the bundle. Rules that merely allow less than meant are left to lint.

import type { CompiledRule } from './compiled.ts'
import { globsMeet, looksAtSegment } from './glob.ts'
import type { Glob } from './glob.ts'
import type { PolicyIssue } from './types.ts'

export function blindedRules(rules: readonly CompiledRule[], transforming: readonly CompiledRule[]): PolicyIssue[] {
  const issues: PolicyIssue[] = []
  for (const transformer of transforming) {
    for (const rule of rules) {
      const blind = blindSpot(rule, transformer)
      if (blind === undefined) continue
      issues.push({
        level: 'error',
        code: 'blinded-by-key-transform',
        file: rule.file,
        rule: rule.id,
        message: `${blind}, which rule ${transformer.id} replaces for keys both match; name that segment * here, or keep the rules' keys apart`,
      })
    }
  }
  return issues
}

/** What of `rule` narrows by a segment that `transformer` replaces, as words. */
function blindSpot(rule: CompiledRule, transformer: CompiledRule): string | undefined {
  const shared = (glob: Glob): boolean => transformer.keys.some((other) => globsMeet(glob, other))
  const looks = (glob: Glob): boolean => transformer.keyTransform.some(({ segment }) => looksAtSegment(glob, segment))
  const narrowing =
    rule.effect === 'deny' || rule.transforms.length > 0 || rule.keyTransform.length > 0 || rule.expires !== undefined
  if (narrowing) {
    const glob = rule.keys.find((candidate) => shared(candidate) && looks(candidate))
    if (glob !== undefined) return `${JSON.stringify(glob.text)} looks at a segment`
  }
  const except = rule.except.find((candidate) => shared(candidate) && looks(candidate))
  if (except !== undefined) return `except ${JSON.stringify(except.text)} looks at a segment`
  if (rule.when?.readsKey === true && rule.keys.some(shared)) return '`when` looks at the key, a segment of'
  return undefined
}
