// Properties of the policy semantics, over random bundles and events.
// The oracle says what is right case by case; these say what must hold between cases.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#kit/random.ts'
import { keyFromBytes } from '#protocol/bytes.ts'
import { classify } from '#policies/engine/classes.ts'
import { compileBundle } from '#policies/engine/compile.ts'
import { deliver } from '#policies/engine/deliver.ts'
import { parsePolicy } from '#policies/engine/document.ts'
import { egress } from '#policies/engine/egress.ts'
import type { Decision, ParsedDocument, PolicyBundle, PolicyEvent } from '#policies/engine/types.ts'
import { testDeps } from '#policies/node/hashing.ts'
import fc from 'fast-check'
import {
  documentsOf,
  Draw,
  drawKey,
  drawSubscriber,
  drawValue,
  drawWorld,
  SCHEMA,
  TIMES,
} from '../../contract/policy-oracle-cases.ts'
import type { ORule, OWorld } from '../../contract/policy-oracle-model.ts'

const RUNS = 250

function compile(world: OWorld, d: Draw): PolicyBundle | undefined {
  const documents: ParsedDocument[] = documentsOf(world, d).map((raw, i) => {
    const policy = parsePolicy(raw, `p${i}`)
    assert.ok(policy.ok)
    return { kind: 'policy', path: `p${i}.yaml`, digest: '0'.repeat(64), policy: policy.value }
  })
  const bundle = compileBundle(
    [...documents, { kind: 'schema', path: 'c.json', digest: '1'.repeat(64), schema: SCHEMA }],
    testDeps(),
  )
  return bundle.ok ? bundle.value : undefined
}

function drawEvent(d: Draw, world: OWorld): PolicyEvent {
  const op = d.maybe(0.8) ? 'put' : 'delete'
  const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
  return {
    op,
    key: keyFromBytes(Buffer.from(drawKey(d, world), 'latin1')),
    ...(op === 'put' ? { value: bytes(drawValue(d)) } : {}),
    ...(d.maybe(0.8) ? { prevValue: bytes(drawValue(d)) } : {}),
    prevKnown: true,
  }
}

/** Runs `check` over random worlds; fast-check gives the seeds, so a failure names the one to repeat. */
function always(check: (d: Draw, world: OWorld) => void): void {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2 ** 31 - 1 }), (seed) => {
      const d = new Draw(seededRandom(seed))
      check(d, drawWorld(d))
    }),
    { numRuns: RUNS },
  )
}

const shown = (decision: Decision): string =>
  JSON.stringify({
    ...decision,
    value:
      decision.effect === 'allow' && decision.value !== undefined
        ? new TextDecoder().decode(decision.value)
        : undefined,
  })
const LET_THROUGH = { allow: 2, withhold: 1, deny: 0 } as const

const bare = (id: string, effect: 'allow' | 'deny', keys: string[]): ORule => ({
  id,
  effect,
  keys,
  except: [],
  ops: undefined,
  regions: undefined,
  audience: undefined,
  when: undefined,
  whenSubscriber: undefined,
  transform: [],
  keyTransform: undefined,
  expires: undefined,
})

test('order independence: rules and files in any order decide alike, with the same hashes', () => {
  always((d, world) => {
    const [one, two] = [compile(world, d), compile(world, d)]
    if (one === undefined || two === undefined) return
    const [a, b] = [egress(one, 'sz', world.hub), egress(two, 'sz', world.hub)]
    for (let i = 0; i < 6; i++) {
      const event = drawEvent(d, world)
      const now = d.of(TIMES)
      assert.equal(shown(a.decide(event, now)), shown(b.decide(event, now)))
      assert.equal(a.configHash(now), b.configHash(now))
    }
  })
})

test('deny wins: a deny rule for everything denies everything; adding any deny rule never widens', () => {
  always((d, world) => {
    const before = compile(world, d)
    const narrower = compile(
      {
        ...world,
        rules: [
          ...world.rules,
          { ...bare('zz', 'deny', d.of(world.rules).keys), when: d.maybe(0.3) ? { is: 'has', name: 'c' } : undefined },
        ],
      },
      d,
    )
    const closed = compile({ ...world, rules: [...world.rules, bare('zz', 'deny', ['**'])] }, d)
    if (before === undefined || narrower === undefined || closed === undefined) return
    for (let i = 0; i < 6; i++) {
      const event = drawEvent(d, world)
      const now = d.of(TIMES)
      const was = egress(before, 'sz', world.hub).decide(event, now)
      const is = egress(narrower, 'sz', world.hub).decide(event, now)
      assert.ok(is.effect === 'deny' || shown(is) === shown(was), `${shown(was)} became ${shown(is)}`)
      assert.equal(egress(closed, 'sz', world.hub).decide(event, now).effect, 'deny')
    }
  })
})

/** Every scalar and name of a JSON value, with its place. */
function leaves(value: unknown, path: string, out: Map<string, string>): Map<string, string> {
  if (typeof value === 'object' && value !== null)
    for (const [name, item] of Object.entries(value)) leaves(item, `${path}/${name}`, out)
  else out.set(path, JSON.stringify(value))
  return out
}

test('adding an allow rule never unmasks: what a visible value did not show, it does not show afterwards', () => {
  always((d, world) => {
    const extra = drawWorld(d).rules.find((rule) => rule.effect === 'allow')
    if (extra === undefined) return
    const before = compile(world, d)
    const after = compile(
      {
        ...world,
        rules: [...world.rules, { ...extra, id: 'zz', keyTransform: undefined, keys: d.of(world.rules).keys }],
      },
      d,
    )
    if (before === undefined || after === undefined) return
    for (let i = 0; i < 8; i++) {
      const event = drawEvent(d, world)
      const now = d.of(TIMES)
      const was = egress(before, 'sz', world.hub).decide(event, now)
      const is = egress(after, 'sz', world.hub).decide(event, now)
      if (was.effect === 'deny') continue
      assert.ok(LET_THROUGH[is.effect] <= LET_THROUGH[was.effect], `${shown(was)} became ${shown(is)}`)
      if (event.op !== 'put' || was.effect !== 'allow' || is.effect !== 'allow') continue
      const texts = [event.value, was.value, is.value].map((bytes) => new TextDecoder().decode(bytes))
      if (texts[0] === texts[1]) continue
      let parsed: unknown[]
      try {
        parsed = texts.map((text) => JSON.parse(text) as unknown)
      } catch {
        continue
      }
      const [original, old, now_] = parsed.map((value) => leaves(value, '', new Map()))
      for (const [path, text] of original ?? []) {
        // What is dropped from an array leaves null in its place, so that the others keep theirs: null shows nothing.
        if (text === 'null') continue
        if (old?.get(path) === text) continue
        const [before, after_] = [old?.get(path), now_?.get(path)]
        assert.notEqual(after_, text, `${path} is shown again: ${shown(was)} became ${shown(is)}`)
        assert.ok(showsNoMore(text, before, after_), `${path} shows more: ${shown(was)} became ${shown(is)}`)
      }
    }
  })
})

/** Leaves as JSON text. A hash speaks of the whole text, so that it may only stand where it stood before. */
function showsNoMore(original: string, before: string | undefined, after_: string | undefined): boolean {
  if (after_ === undefined || after_ === before) return true
  if (/^"(?:sha256:|hmac:)/.test(after_)) return false
  return longestShared(original, after_) <= (before === undefined ? 0 : longestShared(original, before))
}

/** Characters of the longest run that a text shares with the original, apart from masks and quotes. */
function longestShared(original: string, text: string): number {
  let longest = 0
  for (const run of text.split(/[*"]+/)) {
    for (let from = 0; from < run.length; from++)
      while (from + longest < run.length && original.includes(run.slice(from, from + longest + 1))) longest++
  }
  return longest
}

test('I6: adding a field action never reveals what another rule’s detector hid', () => {
  let [hidden, tried] = [0, 0]
  always((d) => {
    const field = (): ORule['transform'][number] => {
      const action = d.of(['keepFirst', 'keepLast', 'truncate', 'hash', 'hmac', 'mask', 'drop'] as const)
      const more =
        action === 'hmac'
          ? { key: 'k1' }
          : action.startsWith('keep') || action === 'truncate'
            ? { n: 1 + d.below(20) }
            : {}
      return { field: d.of(['/id', '/id', '/o', '/**', '/o/p', '/o/*']), action, ...more }
    }
    const detect = (): ORule['transform'][number] => ({
      detect: d.some(['cn-id', 'phone', 'email', 'bank-card'], 3),
      action: d.maybe(0.75) ? 'mask' : 'withhold',
    })
    const rule = (id: string): ORule => ({
      ...bare(id, 'allow', ['/k']),
      transform: d.maybe(0.4) ? [detect()] : d.maybe(0.5) ? [field()] : [detect(), field()],
    })
    const first = [{ ...bare('a', 'allow', ['/k']), transform: [detect()] }, ...(d.maybe(0.5) ? [rule('b')] : [])]
    const worlds = [first, [...first, rule('c')]].map((rules): OWorld => ({ rules, schemas: [], hub: 'sz' }))
    const personal = (): unknown =>
      d.of(['11010519491231002X', '13800138000', 13800138000, 'to 13800138000, please', '138001380007777777', 'none'])
    for (let i = 0; i < 6; i++) {
      const original = JSON.stringify({
        id: personal(),
        o: { p: personal(), [d.of(['q', '13800138000'])]: personal() },
      })
      const event: PolicyEvent = {
        op: 'put',
        key: keyFromBytes(Buffer.from('/k')),
        value: Buffer.from(original),
        prevKnown: true,
      }
      const [was, is] = worlds.map((world) => {
        const bundle = compile(world, d)
        assert.ok(bundle !== undefined)
        return egress(bundle, 'sz', 'sz').decide(event, 0)
      })
      assert.ok(was !== undefined && is !== undefined)
      const story = `${JSON.stringify(worlds[1]?.rules.map((r) => r.transform))}: ${shown(was)} became ${shown(is)}`
      tried++
      if (was.effect === 'withhold') assert.equal(is.effect, 'withhold', story)
      if (was.effect !== 'allow' || is.effect !== 'allow') continue
      const [old, now] = [leavesOf(textOf(was.value)), leavesOf(textOf(is.value))]
      for (const [path, text] of leavesOf(original) ?? []) {
        if (old?.get(path) === text) continue
        hidden++
        assert.ok(showsNoMore(text, old?.get(path), now?.get(path)), `${path} of ${original}: ${story}`)
      }
    }
  })
  assert.ok(tried > 1_000 && hidden > 500, `${tried} tried, ${hidden} places hidden: nothing was tried`)
})

test('transforms are idempotent: deliver for the hub’s own region leaves what egress wrote, byte for byte', () => {
  always((d, world) => {
    // Rules for everybody, so that both stages see the same ones.
    const open = {
      ...world,
      schemas: [],
      rules: world.rules.map((rule) => ({ ...rule, audience: undefined, whenSubscriber: undefined, when: undefined })),
    }
    const bundle = compile(open, d)
    if (bundle === undefined) return
    const cls = classify(bundle, { subject: 's', region: world.hub, audiences: [], scopes: [], anonymous: false })
    assert.ok(!('refused' in cls))
    for (let i = 0; i < 6; i++) {
      const event = drawEvent(d, open)
      const now = d.of(TIMES)
      const left = egress(bundle, 'sz', world.hub).decide(event, now)
      if (left.effect !== 'allow') continue
      const seen: Decision = deliver(bundle, 'sz', cls).decide(
        { op: event.op, key: left.key, value: left.value, applied: left.transforms, prevKnown: true },
        now,
      )
      assert.ok(
        seen.effect === 'allow' && seen.key === left.key && seen.value === left.value,
        `${shown(left)} became ${shown(seen)}`,
      )
    }
  })
})

test('deliver is within egress: through both stages nothing shows that either of them hides', () => {
  let [shownAtAll, changed] = [0, 0]
  always((d, world) => {
    const who = drawSubscriber(d)
    // Often egress has nothing to transform and deliver has, or deliver would do nothing of its own.
    const open: OWorld = {
      ...world,
      rules: d.maybe(0.5)
        ? world.rules
        : [
            ...world.rules.map((rule) => (rule.transform.length > 0 ? { ...rule, regions: [who.region] } : rule)),
            bare('everything', 'allow', ['**']),
          ],
    }
    const bundle = compile(open, d)
    if (bundle === undefined) return
    const cls = classify(bundle, { subject: 's', ...who })
    assert.ok(!('refused' in cls))
    const decider = deliver(bundle, 'sz', cls)
    for (let i = 0; i < 6; i++) {
      const event = drawEvent(d, world)
      const now = d.of(TIMES)
      const left = egress(bundle, 'sz', world.hub).decide(event, now)
      // What is denied never gets to a gateway: all that could follow is LEAVE, which names the key egress had let out before.
      if (left.effect === 'deny') continue
      const seen: Decision = decider.decide(
        left.effect === 'withhold'
          ? { op: event.op, key: left.key, withheld: left.rule, applied: left.transforms, prevKnown: true }
          : { op: event.op, key: left.key, value: left.value, applied: left.transforms, prevKnown: true },
        now,
      )
      assert.ok(LET_THROUGH[seen.effect] <= LET_THROUGH[left.effect], `${shown(left)} became ${shown(seen)}`)
      if (left.effect !== 'allow' || seen.effect !== 'allow' || seen.value === undefined) continue
      shownAtAll++
      if (seen.value === left.value) continue
      changed++
      const original: string = textOf(event.value)
      const out: string = textOf(left.value)
      const shownNow: string = textOf(seen.value)
      const [a, b, c] = [leavesOf(original), leavesOf(out), leavesOf(shownNow)]
      // Every place that egress changed shows what egress left there, or something stricter, never what the source had.
      if (a === undefined || b === undefined || c === undefined) {
        assert.ok(original === out || original !== shownNow, `${shown(left)} became ${shown(seen)}`)
        continue
      }
      for (const [path, text] of a)
        if (text !== 'null' && b.get(path) !== text)
          assert.notEqual(c.get(path), text, `${path}: ${shown(left)} became ${shown(seen)}`)
      for (const path of c.keys()) assert.ok(b.has(path) || !a.has(path), `${path} comes back: ${shown(seen)}`)
    }
  })
  assert.ok(shownAtAll > 20 && changed > 3, `${shownAtAll} shown, ${changed} changed by deliver: nothing was tried`)
})

function textOf(bytes: Uint8Array | undefined): string {
  return new TextDecoder().decode(bytes)
}

function leavesOf(text: string): Map<string, string> | undefined {
  try {
    return leaves(JSON.parse(text), '', new Map())
  } catch {
    return undefined
  }
}

test('equal class ids mean equal treatment', () => {
  always((d, world) => {
    const bundle = compile(world, d)
    if (bundle === undefined) return
    const subscribers = Array.from({ length: 4 }, () => ({ subject: 's', ...drawSubscriber(d) }))
    const other = compile(world, d)
    if (other === undefined) return
    for (const who of subscribers) {
      const a = classify(bundle, who)
      const b = classify(other, { ...who, subject: 'else', scopes: [...who.scopes, 'unrelated'] })
      assert.ok(!('refused' in a) && !('refused' in b))
      if (a.id !== b.id) continue
      const event = drawEvent(d, world)
      const now = d.of(TIMES)
      assert.equal(
        shown(deliver(bundle, 'sz', a).decide(event, now)),
        shown(deliver(other, 'sz', { ...b, bundle: other.revision }).decide(event, now)),
      )
    }
  })
})

test('I6: no engine error allows: with a key store that throws at random nothing more gets out', () => {
  always((d, world) => {
    const good = compile(world, d)
    if (good === undefined) return
    const deps = testDeps()
    const flaky = {
      ...good,
      compiled: {
        ...good.compiled,
        deps: {
          ...deps,
          hmac: () => {
            throw new Error('no key store')
          },
        },
      },
    }
    for (let i = 0; i < 6; i++) {
      const event = drawEvent(d, world)
      const now = d.of(TIMES)
      const [was, is]: [Decision, Decision] = [
        egress(good, 'sz', world.hub).decide(event, now),
        egress(flaky, 'sz', world.hub).decide(event, now),
      ]
      assert.ok(shown(is) === shown(was) || is.effect !== 'allow', `${shown(was)} became ${shown(is)}`)
    }
  })
})
