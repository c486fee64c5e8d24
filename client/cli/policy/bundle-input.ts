// Reading a bundle for a command: parsed, compiled, and refused with a report that says where.
// Owns: from a path to documents or a compiled bundle, and how issues look. Refuses: deciding what a command does with them.

import { emptyKeyring, loadKeyring } from '#policies/node/keyring.ts'
import { policyDeps, testDeps } from '#policies/node/hashing.ts'
import { readBundleFiles } from '#policies/node/bundle-files.ts'
import type { BundleFiles } from '#policies/node/bundle-files.ts'
import { openFiles } from '#policies/node/open-bundle.ts'
import { readPublicKey } from '#policies/node/signature.ts'
import type { PolicyBundle, PolicyDeps, PolicyIssue } from '#policies/engine/types.ts'
import { CliError, Exit } from '../failure.ts'
import { printable } from '../printable.ts'
import type { Terminal } from '../terminal.ts'

export async function readFiles(path: string): Promise<BundleFiles> {
  const files = await readBundleFiles(path)
  if (!files.ok) throw refused(path, files.error)
  return files.value
}

/** A file named by an option; a usage error when it cannot be read. */
export function readOption(io: Terminal, option: string, path: string): string {
  try {
    return io.readFile(path)
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown reason'
    throw new CliError(Exit.Usage, `${option}: ${path} cannot be read (${code})`, 'name a file that is there')
  }
}

export type OpenOptions = {
  readonly keys?: string | undefined
  readonly publicKey?: string | undefined
  readonly testKeys?: boolean
}

/** Compiled, its tests not run. Missing HMAC keys are only worth a warning where a key directory was given. */
export async function openForCommand(
  path: string,
  options: OpenOptions,
  io: Terminal,
): Promise<{ bundle: PolicyBundle; files: BundleFiles; deps: PolicyDeps }> {
  const deps =
    options.keys !== undefined
      ? policyDeps(await loadKeyring(options.keys))
      : options.testKeys === false
        ? policyDeps(emptyKeyring())
        : testDeps()
  const publicKey =
    options.publicKey === undefined ? undefined : readPublicKey(readOption(io, '--public-key', options.publicKey))
  const files = await readFiles(path)
  const opened = openFiles(files, { deps, publicKey, selfTest: false })
  if (!opened.ok) throw refused(path, opened.error)
  return { bundle: opened.value, files, deps }
}

export function refused(path: string, issues: readonly PolicyIssue[]): CliError {
  const count = `${issues.length} ${issues.length === 1 ? 'problem' : 'problems'}`
  return new CliError(Exit.Config, `${path}: refused, ${count}`, issues.map(issueText).join('\n'))
}

export function issueText({ level, code, file, at, rule, message }: PolicyIssue): string {
  const where = [file, at].filter((part) => part !== undefined && part !== '').join(' ')
  const about = rule === undefined ? '' : ` (rule ${rule})`
  return printable(
    `${level === 'error' ? '' : 'warning: '}${where}${where === '' ? '' : ': '}${message}${about} [${code}]`,
  )
}

/** Milliseconds since 1970 of an option such as 2027-04-01T00:00:00+08:00. */
export function instant(text: string | undefined, now: number): number {
  if (text === undefined) return now
  const at = Date.parse(text)
  if (Number.isNaN(at))
    throw new CliError(
      Exit.Usage,
      `--at: ${JSON.stringify(text)} is no time`,
      'write it like 2027-04-01T00:00:00+08:00',
    )
  return at
}

export const bundleLine = (path: string, bundle: PolicyBundle): string =>
  `${path}: ${bundle.ruleCount} rules for ${bundle.regions.join(', ')}, revision ${bundle.revision.slice(0, 12)}`
