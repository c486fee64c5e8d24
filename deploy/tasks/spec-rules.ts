// The rules of protocol/SPEC.md and the tests that name them.
// Owns: reading both, and the tables of the page that are made from code. Refuses: judging; the contract test compares.

import { glob, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Close, type Code, ErrorCode, errorLabel, retryFor } from '#protocol/codes.ts'
import { asyncApi } from '#protocol/schema/asyncapi.ts'
import { ROOT } from './spawn.ts'
import { PROOFS } from './spec-proofs.ts'

export const SPEC_FILE = 'protocol/SPEC.md'
export const ASYNCAPI_FILE = 'protocol/schema/asyncapi.json'

export type NamedTest = {
  readonly file: string
  readonly name: string
  /** Rules its name starts with. */
  readonly rules: readonly string[]
  /** Rules that spec-proofs.ts says it proves. */
  readonly proofs: readonly string[]
}

const TEST_NAME = /\b(?:it|test)\(\s*(['"`])((?:(?!\1)[^\\\n]|\\.)+)\1/g
const IDS = /^((?:[A-Z][0-9]+,? )*[A-Z][0-9]+): /

/** Every test of the tree, as its source spells it: the ids its name starts with, then the rest of the name. */
export async function namedTests(root = ROOT): Promise<NamedTest[]> {
  const files: string[] = []
  for await (const file of glob('test/**/*.test.ts', { cwd: root })) files.push(file)
  const found: NamedTest[] = []
  for (const file of files.toSorted()) {
    const source = await readFile(join(root, file), 'utf8')
    for (const match of source.matchAll(TEST_NAME)) {
      const whole = match[2] ?? ''
      const ids = IDS.exec(whole)
      const name = whole.slice(ids?.[0].length ?? 0)
      const proofs = PROOFS.filter((proof) => proof[1] === file && proof[2] === name).map(([rule]) => rule)
      found.push({ file, name, rules: (ids?.[1] ?? '').split(/,? /).filter(Boolean), proofs })
    }
  }
  return found
}

/** Ids of the rules that the page states, in its order. */
export const statedRules = (spec: string): string[] =>
  [...spec.matchAll(/^- \*\*([A-Z][0-9]+)\*\* /gm)].map((m) => m[1] ?? '')

/** The part of the page between two of its markers. */
export function section(spec: string, name: 'codes' | 'rules'): string {
  const [, rest = ''] = spec.split(new RegExp(`<!-- ${name}:begin[^>]*-->\n`))
  return rest.split(`<!-- ${name}:end -->`)[0] ?? ''
}
const withSection = (spec: string, name: 'codes' | 'rules', text: string): string =>
  spec.replace(section(spec, name) + `<!-- ${name}:end -->`, () => `${text}<!-- ${name}:end -->`)

/** Rules that the page admits nothing proves yet. */
export const gaps = (spec: string): string[] =>
  [...(spec.split('\n## Gaps\n')[1] ?? '').matchAll(/^\| ([A-Z][0-9]+) \|/gm)].map((m) => m[1] ?? '')

/** The rows of the page's table: rule, file, name. */
export const listedTests = (spec: string): { rule: string; file: string; name: string }[] =>
  [...section(spec, 'rules').matchAll(/^\| ([A-Z][0-9]+) \| `([^`]+)` \| (.*) \|$/gm)].map((m) => ({
    rule: m[1] ?? '',
    file: m[2] ?? '',
    name: m[3] ?? '',
  }))

/** A name as a table can hold it. */
export const inTable = (name: string): string => name.replaceAll('|', '\\|')

export function renderRules(spec: string, tests: readonly NamedTest[]): string {
  const rows = statedRules(spec).flatMap((rule) =>
    tests
      .filter((test) => test.rules.includes(rule) || test.proofs.includes(rule))
      .map(({ file, name }) => `| ${rule} | \`${file}\` | ${inTable(name)} |`),
  )
  return `| rule | file | test |\n| --- | --- | --- |\n${rows.join('\n')}\n`
}

export function renderCodes(): string {
  const rows = (codes: readonly Code[], label: (code: Code) => string, more: (code: Code) => string): string =>
    codes.map((code) => `| ${label(code)} | ${code.name} | ${code.text} | ${more(code)} |`).join('\n')
  const close = rows(
    Object.values(Close),
    (code) => String(code.code),
    (code) => retryFor(code.code),
  )
  const inBand = rows(Object.values(ErrorCode), errorLabel, (code) => (code.code >= 4100 ? 'yes' : 'no'))
  return [
    '| close code | name | meaning | reconnect |\n| --- | --- | --- | --- |',
    close,
    '\n| error code | name | meaning | temporary |\n| --- | --- | --- | --- |',
    `${inBand}\n`,
  ].join('\n')
}

/** Files made from the protocol, by path below the root. */
export async function protocolPages(root = ROOT): Promise<Readonly<Record<string, string>>> {
  const spec = await readFile(join(root, SPEC_FILE), 'utf8')
  const rules = withSection(spec, 'rules', renderRules(spec, await namedTests(root)))
  const document = asyncApi({ host: 'gateway.example', secure: true, productVersion: '1' })
  return {
    [SPEC_FILE]: withSection(rules, 'codes', renderCodes()),
    [ASYNCAPI_FILE]: `${JSON.stringify(document, undefined, 2)}\n`,
  }
}
