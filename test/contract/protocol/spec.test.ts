// protocol/SPEC.md against the code and the tests: rules, tables and vectors that the page names exist, and the reverse.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import {
  gaps,
  inTable,
  listedTests,
  namedTests,
  type NamedTest,
  renderCodes,
  section,
  SPEC_FILE,
  statedRules,
} from '#deploy/tasks/spec-rules.ts'
import { PROOFS } from '#deploy/tasks/spec-proofs.ts'
import { MAX_CURSOR_CLUSTERS } from '#protocol/cursor.ts'
import { MAX_ID_LENGTH, MAX_KEY_BYTES } from '#protocol/decode.ts'
import { MAX_GROUP_BYTES, MAX_GROUP_SLICES } from '#protocol/log/chain.ts'
import { SUPPORTED_VERSIONS } from '#protocol/version.ts'

const spec = readFileSync(new URL(`../../../${SPEC_FILE}`, import.meta.url), 'utf8')
const rules = statedRules(spec)
const listed = listedTests(spec)

describe('SPEC.md', () => {
  it('states each rule once, numbered without holes', () => {
    assert.equal(new Set(rules).size, rules.length)
    const groups = Map.groupBy(rules, (rule) => rule.slice(0, 1))
    assert.deepEqual([...groups.keys()].join(''), 'ILCKBSRVXPQT')
    for (const [letter, members] of groups) {
      assert.deepEqual(
        members,
        members.map((_, i) => `${letter}${i + 1}`),
      )
    }
  })

  it('lists only tests that exist, under the rules their names carry', async () => {
    const tests = await namedTests()
    assert.ok(listed.length > 80, `${listed.length} rows`)
    for (const { rule, file, name } of listed) {
      const carries = (t: NamedTest): boolean => t.rules.includes(rule) || t.proofs.includes(rule)
      const found = tests.some((t) => t.file === file && inTable(t.name) === name && carries(t))
      assert.ok(found, `${file} has no test "${rule}: ${name}"; run npm run docs:gen`)
    }
  })

  it('is right about the tests that prove a rule without naming it', async () => {
    const tests = await namedTests()
    for (const [rule, file, name] of PROOFS) {
      assert.ok(rules.includes(rule), rule)
      assert.ok(
        tests.some((t) => t.file === file && t.name === name),
        `${file} has no test "${name}"`,
      )
    }
  })

  it('knows every rule that a test names', async () => {
    const stated = new Set(rules)
    for (const { file, name, rules: named } of await namedTests()) {
      for (const rule of named) assert.ok(stated.has(rule), `${file}: "${rule}: ${name}" names no rule of ${SPEC_FILE}`)
    }
  })

  it('has for every rule a test, or admits that it has none', () => {
    const proved = new Set(listed.map((row) => row.rule))
    const admitted = new Set(gaps(spec))
    for (const rule of rules) assert.ok(proved.has(rule) || admitted.has(rule), `${rule} is neither proved nor a gap`)
    for (const rule of admitted) assert.ok(rules.includes(rule), `the gap ${rule} is no rule`)
    for (const rule of admitted) assert.ok(!proved.has(rule), `${rule} is no gap any more: a test names it`)
  })

  it('X1: shows the codes as codes.ts has them', () => {
    assert.equal(section(spec, 'codes'), renderCodes())
  })

  it('states the limits that the code has', () => {
    const says = (text: string): void => assert.ok(spec.includes(text), text)
    says(`${MAX_KEY_BYTES.toLocaleString('en')} bytes`)
    says(`ids (${MAX_ID_LENGTH} characters)`)
    says(`at most ${MAX_CURSOR_CLUSTERS} clusters`)
    says(`${MAX_GROUP_BYTES / 2 ** 20} MiB and ${MAX_GROUP_SLICES.toLocaleString('en')} slices`)
    for (const version of SUPPORTED_VERSIONS)
      assert.match(spec, new RegExp(`^\\| ${version} \\| \\d{4}-\\d\\d-\\d\\d \\|`, 'm'))
  })
})
