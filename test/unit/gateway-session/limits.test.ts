// Limits that need no socket, and the page that lists all of them: every row names a metric and a test that exist.

import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { keyFromText, prefixEnd } from '#protocol/bytes.ts'
import { systemRandom } from '#kit/random.ts'
import { LocalTickets } from '#gateway/auth/tickets.ts'
import { FakeSource, FakeSources } from '#test/support/fake-source.ts'
import { ManualClock } from '#test/support/manual-clock.ts'
import { FakeWire, policyOf, Rig } from './rig.ts'

const root = fileURLToPath(new URL('../../../', import.meta.url))
const read = (path: string): string => readFileSync(`${root}${path}`, 'utf8')

test('a watch of more clusters than a cursor can name is refused, and leaves nothing behind', () => {
  const sources = Array.from({ length: 65 }, (_, n) => new FakeSource({ cluster: `c-${n}` }))
  using rig = new Rig(new FakeSources(...sources), policyOf({}))
  const subscriber = rig.connect(new FakeWire())
  const from = keyFromText('/')
  const spec = { range: { from, to: prefixEnd(from) }, mode: 'log', values: 'auto' } as const
  const request = {
    id: 'w',
    clusters: '*',
    regions: undefined,
    start: 'now',
    otherwise: 'snapshot',
    narrowed: undefined,
  } as const
  assert.equal(rig.delivery.open(subscriber, spec, request)?.code.name, 'TooManyClusters')
  assert.equal(rig.delivery.channels.size, 0)
})

test('so many tickets may be open and no more; time makes room', async () => {
  const clock = new ManualClock(0)
  const tickets = new LocalTickets(clock, systemRandom())
  const subscriber = { subject: 'anna', region: 'sz', audiences: [], scopes: [], anonymous: false }
  const principal = { subscriber, dev: true } as unknown as Parameters<LocalTickets['mint']>[0]
  for (let n = 0; n < 10_000; n++) assert.ok((await tickets.mint(principal, undefined)) !== undefined)
  assert.equal(await tickets.mint(principal, undefined), undefined)
  await clock.advance(31_000)
  assert.ok((await tickets.mint(principal, undefined)) !== undefined)
})

type Row = { readonly limit: string; readonly counted: string; readonly test: string }
const rows: readonly Row[] = read('docs/reference/limits.md')
  .split('\n')
  .filter((line) => line.startsWith('| ') && !line.startsWith('| limit') && !line.startsWith('| ---'))
  .map((line) => {
    const [, limit = '', , counted = '', proof = ''] = line.split('|').map((cell) => cell.trim())
    return { limit, counted, test: proof }
  })

test('every configured limit and memory bound has a row', () => {
  const fields = [...read('docs/reference/config.md').matchAll(/^\| `((?:limits|memory)\.\w+)`/gm)].map(
    ([, name]) => name,
  )
  assert.ok(fields.length > 20)
  const listed = rows.map((row) => row.limit).join(' ')
  for (const field of fields) assert.ok(listed.includes(`\`${field}\``), `limits.md has no row for ${field}`)
})

test('every row names a metric of the gateway and a test that stands where it says', () => {
  const sources = globSync('gateway/**/*.ts', { cwd: root }).map(read).join('\n')
  for (const row of rows) {
    const metrics = [...row.counted.matchAll(/`(deltawatch_\w+)/g)].map(([, name]) => name)
    assert.ok(metrics.length > 0, `no metric counts ${row.limit}`)
    for (const metric of metrics) assert.ok(sources.includes(`'${metric}'`), `${metric} is no metric of the gateway`)
    const [, file, name] = /^`([^`]+)`: (.+)$/.exec(row.test) ?? []
    assert.ok(file !== undefined && name !== undefined, `no test trips ${row.limit}`)
    assert.ok(read(`test/${file}`).includes(name), `${file} has no "${name}"`)
  }
})
