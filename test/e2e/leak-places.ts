// Where personal data turns up in a store, and policy documents under which none of it may be seen downstream.
// Owns: the places and the documents. Refuses: writing (leak.test.ts).

import type { WriteOp } from '../judge/etcd-http.ts'
import { allow, policy } from './policy-stack.ts'

const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value))
const MASKED =
  'transform: [{ field: /diagnosis, action: drop }, { detect: [cn-id, hkid, mo-id, phone, email, bank-card], action: mask }], '
const HASHED = 'keyTransform: [{ segment: 2, action: hmac, key: users-v1 }], '

/** `later` are keys that may leave at first. `extra` makes another bundle of the same rules. */
export const document = (options: { later: boolean; extra?: string }): string =>
  policy(
    '{ id: never-health, effect: deny, match: { keys: ["/health/**", "/vault/**"] } }',
    allow('orders', '/orders/**', 'sz, hk', MASKED),
    allow('people', '/people/*/card', 'sz, hk', MASKED + HASHED),
    allow('cases', '/cases/**', 'sz, hk', `when: 'value.class == "open"', `),
    allow('home', '/home/**', 'sz'),
    allow('canary-in-the-mine', '/plain/**', 'sz, hk'),
    ...(options.later ? [allow('later', '/later/**', 'sz, hk')] : []),
    ...(options.extra === undefined ? [] : [allow(options.extra, `/${options.extra}/**`, 'sz, hk')]),
  )

type Place = (text: string, n: number) => readonly (readonly WriteOp[])[]

const put = (key: string, value: Buffer): WriteOp => ({ op: 'put', key, value })
const isFinding = (text: string): boolean => text.startsWith('icd-')

/** Each returns transactions, in order. What no detector knows only ever stands where a rule for its key or field keeps it back. */
const PLACES: readonly Place[] = [
  (t, n) => [[put(`/orders/${n}/status`, json({ state: 'paid', nested: { deep: [{ id: t }] } }))]],
  (t, n) => [[put(`/orders/${n}/names`, json({ [t]: 'as a name', list: [1, [t], { t }] }))]],
  (t, n) => [[put(`/orders/${n}/text`, Buffer.from(`remember ${t} when calling`))]],
  (t, n) => [[put(`/orders/${n}/binary`, Buffer.concat([Buffer.of(0xff, 0xfe, 0), Buffer.from(t), Buffer.of(0x80)]))]],
  (t, n) => [
    [
      put(
        `/orders/${n}/escaped`,
        Buffer.from(`{"id":"${Array.from(t, (c) => `\\u00${c.charCodeAt(0).toString(16)}`).join('')}"}`),
      ),
    ],
  ],
  (t, n) => [
    [put(`/people/${t}/card`, json({ n }))],
    [put(`/people/${t}/card`, json({ n, id: t }))],
    [{ op: 'delete', key: `/people/${t}/card` }],
  ],
  (t, n) => [[put(`/vault/${t}`, json({ n }))], [{ op: 'delete', key: `/vault/${t}` }]],
  (t, n) => [[put(`/orders/${n}/gone`, json({ id: t }))], [{ op: 'delete', key: `/orders/${n}/gone` }]],
  (t, n) => [
    [put(`/cases/${n}`, json({ class: 'open' }))],
    [put(`/cases/${n}`, json({ class: 'sealed', id: t }))],
    [put(`/cases/${n}`, json({ class: 'open', again: true }))],
  ],
  (t, n) => [
    [put(`/cases/${n}/sealed`, json({ class: 'sealed', id: t }))],
    [{ op: 'delete', key: `/cases/${n}/sealed` }],
  ],
  (t, n) => [
    [
      put(`/plain/${n}`, json({ n })),
      put(`/health/${n}`, json({ id: t })),
      put(`/orders/${n}/mixed`, json({ id: t, diagnosis: t })),
    ],
  ],
  (t, n) => [[put(`/orders/${n}/number`, /^\d{9,15}$/.test(t) ? Buffer.from(`{"phone":${t}}`) : json({ id: t }))]],
]
const HIDDEN: readonly Place[] = [
  (t, n) => [[put(`/health/${n}/record`, json({ finding: t }))], [{ op: 'delete', key: `/health/${n}/record` }]],
  (t, n) => [[put(`/orders/${n}/visit`, json({ state: 'done', diagnosis: t }))]],
  (t) => [[put(`/vault/${t}/finding`, Buffer.from(t))]],
]

export function plantingsOf(texts: readonly string[], from: number): readonly (readonly WriteOp[])[] {
  return texts.flatMap((text, i) => {
    const n = from + i
    const places = isFinding(text) ? HIDDEN : PLACES
    return (places[n % places.length] as Place)(text, n)
  })
}

/** Values above what one entry or frame carries, full of what must not be seen: in view but masked, and out of view. */
export const oversized = (texts: readonly string[]): readonly (readonly WriteOp[])[] => {
  const known = texts.filter((text) => !isFinding(text))
  const filler = 'x'.repeat(1_000)
  const big = json({ rows: Array.from({ length: 1_150 }, (_, i) => ({ id: known[i % known.length], filler })) })
  return [[put('/orders/big', big)], [put('/health/big', big)], [{ op: 'delete', key: '/orders/big' }]]
}
