// `deltawatch policy check`: would the services take this bundle, and is there something in it to look at?

import { blindedConditions, expiryWarnings, lostLimits, overlaps, unreachableRules } from '#policies/engine/lint.ts'
import type { PolicyBundle, PolicyIssue } from '#policies/engine/types.ts'
import { Exit, type ExitCode } from '../failure.ts'
import { painter, type Terminal } from '../terminal.ts'
import { bundleLine, instant, issueText, openForCommand } from './bundle-input.ts'

export type CheckOptions = {
  readonly hub?: string
  readonly keys?: string
  readonly publicKey?: string
  readonly at?: string
  readonly canaryOf?: string
  readonly strict?: boolean
  readonly json?: boolean
}

const againstLive = async (path: string, candidate: PolicyBundle, io: Terminal): Promise<PolicyIssue[]> =>
  lostLimits((await openForCommand(path, {}, io)).bundle, candidate)

export async function check(path: string, options: CheckOptions, io: Terminal): Promise<ExitCode> {
  const now = instant(options.at, Date.now())
  const { bundle } = await openForCommand(path, options, io)
  const warnings = [
    ...bundle.warnings,
    ...expiryWarnings(bundle, now),
    ...(options.hub === undefined ? [] : unreachableRules(bundle, options.hub)),
    ...overlaps(bundle),
    ...blindedConditions(bundle, options.hub),
    ...(options.canaryOf === undefined ? [] : await againstLive(options.canaryOf, bundle, io)),
  ]
  if (options.json === true) {
    await io.out.write(
      `${JSON.stringify({ revision: bundle.revision, regions: bundle.regions, rules: bundle.ruleCount, warnings })}\n`,
    )
  } else {
    const paint = painter(io.colour)
    for (const warning of warnings) await io.out.write(`${paint('yellow', issueText(warning))}\n`)
    await io.out.write(`${bundleLine(path, bundle)}\n`)
  }
  return options.strict === true && warnings.length > 0 ? Exit.Found : Exit.Ok
}
