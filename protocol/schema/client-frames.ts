// JSON Schemas of what a client may send.
// Owns: one schema per client frame. Refuses: what needs bytes to judge (order of `from` and `to`, the size of a key in
// bytes, the checksum of a cursor): the gateway answers those by code.

import * as t from './terms.ts'

const keyText = (what: string): t.Schema => t.text(what, { maxLength: 8192 })
const names = (each: t.Schema): t.Schema => t.list(each, { minItems: 1, maxItems: 256 })
const name = t.text('An id; one that does not exist is answered like one that is denied.', { maxLength: 32 })

const selector = {
  'key?': keyText('Exactly this key.'),
  'keyBase64?': t.base64('Exactly this key'),
  'prefix?': keyText('Every key that starts with this; empty for all keys.'),
  'prefixBase64?': t.base64('Every key that starts with this'),
  'from?': keyText('First key of a range, bytewise.'),
  'fromBase64?': t.base64('First key of a range, bytewise'),
  'to?': keyText('First key after the range, bytewise; absent: to the end of the key space.'),
  'toBase64?': t.base64('First key after the range'),
}
const given = (field: string): t.Schema => t.either({ required: [field] }, { required: [`${field}Base64`] })
const without = (...fields: readonly string[]): t.Schema => ({
  not: { anyOf: fields.flatMap((field) => [{ required: [field] }, { required: [`${field}Base64`] }]) },
})

export const CLIENT_FRAMES: Readonly<Record<string, t.Schema>> = {
  hello: t.object(
    {
      type: t.constant('hello'),
      'token?': t.text('JWT; may be left out where the upgrade request carried it.', { maxLength: 16_384 }),
      client: t.text('Name and version of the client, for logs.', { maxLength: 128 }),
      versions: t.list(t.integer('A wire version the client speaks.'), { minItems: 1, maxItems: 16 }),
    },
    { additionalProperties: true },
  ),
  watch: t.object(
    {
      type: t.constant('watch'),
      id: t.watchId,
      'clusters?': t.either(t.constant('*'), names(name)),
      'regions?': names(name),
      ...selector,
      start: t.either(t.oneOfWords(['snapshot', 'now'], 'Where to begin.'), t.cursor),
      'default?': t.oneOfWords(['snapshot', 'now'], 'How clusters that the cursor does not name begin.'),
      'mode?': t.oneOfWords(['log', 'state'], 'Every revision, or the newest state when the reader is slow.'),
      'values?': t.oneOfWords(['auto', 'base64', 'none'], 'How values travel.'),
    },
    {
      oneOf: [
        { allOf: [given('key'), without('prefix', 'from', 'to')] },
        { allOf: [given('prefix'), without('key', 'from', 'to')] },
        { allOf: [given('from'), without('key', 'prefix'), t.atMostOne('to', 'toBase64')] },
      ],
    },
  ),
  unwatch: t.object({ type: t.constant('unwatch'), id: t.watchId }, { additionalProperties: true }),
  auth: t.object(
    { type: t.constant('auth'), token: t.text('A fresh JWT of the same subject.', { maxLength: 16_384 }) },
    { additionalProperties: true },
  ),
  ping: t.object({ type: t.constant('ping') }, { additionalProperties: true }),
}
