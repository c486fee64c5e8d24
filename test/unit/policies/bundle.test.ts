// Bundles on disk and in one file: bounded reading, manifests, signatures, HMAC keys.

import assert from 'node:assert/strict'
import { createHmac, generateKeyPairSync, hash } from 'node:crypto'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import type { PolicyIssue, Result } from '#policies/engine/types.ts'
import { MANIFEST_NAME, parseManifest, SIGNATURE_NAME } from '#policies/engine/manifest.ts'
import { readBundleFile, readBundleFiles, writeBundleFile } from '#policies/node/bundle-files.ts'
import type { BundleFiles } from '#policies/node/bundle-files.ts'
import { policyDeps, testDeps } from '#policies/node/hashing.ts'
import { emptyKeyring, loadKeyring } from '#policies/node/keyring.ts'
import { manifestFor, openBundle, openFiles } from '#policies/node/open-bundle.ts'
import { readPrivateKey, readPublicKey, signManifest, verifyManifest } from '#policies/node/signature.ts'

const POLICY = `apiVersion: watch-policy/v1
kind: RegionPolicy
metadata: { name: a, owner: b }
spec:
  source: { region: sz, regime: PIPL }
  mode: enforce
  rules:
    - { id: open, effect: allow, match: { keys: ["/a/**"], to: { regions: [sz] } } }
`
const SUITE = `apiVersion: watch-policy/v1
kind: PolicySuite
policy: a
hub: sz
at: 2026-11-22T00:00:00Z
cases:
  - { name: in, given: { key: /a/1, text: x }, expect: { effect: allow } }
  - { name: out, given: { key: /b/1, text: x }, expect: { effect: deny } }
`

async function folder(
  files: Readonly<Record<string, string | Uint8Array>>,
): Promise<AsyncDisposable & { path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'deltawatch-policies-'))
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(join(path, name)), { recursive: true })
    await writeFile(join(path, name), content)
  }
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}

const GOOD = { 'regions/a.yaml': POLICY, 'tests/a.yaml': SUITE }
const codes = (result: Result<unknown, PolicyIssue[]>): string[] =>
  result.ok ? [] : result.error.map((issue) => issue.code)
const names = (result: Result<BundleFiles, PolicyIssue[]>): string[] =>
  result.ok ? result.value.files.map((file) => file.path) : codes(result)

test('a directory with regions/ and tests/, a flat one, and one with hidden and foreign files', async () => {
  await using tree = await folder({
    ...GOOD,
    'regions/schemas/s.json': '{}',
    'engine/code.ts': 'x',
    'README.md': 'x',
    '.git/x.yaml': 'x',
    'other/y.yaml': 'x',
  })
  assert.deepEqual(names(await readBundleFiles(tree.path)), [
    'regions/a.yaml',
    'regions/schemas/s.json',
    'tests/a.yaml',
  ])
  await using flat = await folder({
    'a.yaml': POLICY,
    'schemas/s.json': '{}',
    'tests/t.yaml': SUITE,
    'node_modules/x.yaml': 'x',
  })
  assert.deepEqual(names(await readBundleFiles(flat.path)), ['a.yaml', 'schemas/s.json', 'tests/t.yaml'])
  assert.deepEqual(codes(await readBundleFiles(join(flat.path, 'nowhere'))), ['bad-document'])
})

test('a mount that swaps versions by symbolic links is read; a link out of the bundle refuses it', async () => {
  await using mount = await folder({ '..2026/a.yaml': POLICY })
  await symlink('..2026', join(mount.path, '..data'))
  await symlink('..data/a.yaml', join(mount.path, 'a.yaml'))
  assert.deepEqual(names(await readBundleFiles(mount.path)), ['a.yaml'])
  await using secret = await folder({ 'secret.yaml': 'password: x' })
  await symlink(join(secret.path, 'secret.yaml'), join(mount.path, 'b.yaml'))
  const read = await readBundleFiles(mount.path)
  assert.ok(!read.ok && read.error[0]?.file === 'b.yaml' && !JSON.stringify(read.error).includes('password'))
})

test('reading is bounded in size, number, depth and names', async () => {
  await using large = await folder({ 'a.yaml': new Uint8Array(4 * 1024 * 1024 + 1) })
  assert.deepEqual(codes(await readBundleFiles(large.path)), ['too-large'])
  await using many = await folder(Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`f${i}.yaml`, ''])))
  assert.deepEqual(codes(await readBundleFiles(many.path)), ['too-large'])
  await using deep = await folder({ 'regions/a/b/c/d/e.yaml': POLICY })
  assert.deepEqual(codes(await readBundleFiles(deep.path)), ['too-large'])
  await using odd = await folder({ 'a b.yaml': POLICY })
  assert.deepEqual(codes(await readBundleFiles(odd.path)), ['too-large'])
})

test('the bundle’s own tests decide whether it may go live', async () => {
  await using good = await folder(GOOD)
  const opened = await openBundle(good.path, { deps: policyDeps(emptyKeyring()) })
  assert.ok(opened.ok && opened.value.regions.join() === 'sz')
  await using bad = await folder({ ...GOOD, 'tests/a.yaml': SUITE.replace('effect: deny', 'effect: allow') })
  const refused = await openBundle(bad.path, { deps: testDeps() })
  assert.deepEqual(codes(refused), ['failing-test'])
  assert.ok((await openBundle(bad.path, { deps: testDeps(), selfTest: false })).ok)
  await using lost = await folder({ ...GOOD, 'tests/a.yaml': SUITE.replace('policy: a', 'policy: none') })
  assert.deepEqual(codes(await openBundle(lost.path, { deps: testDeps() })), ['failing-test'])
})

test('the revision is the hash of the manifest, in the form sha256sum reads, and changes with every byte', async () => {
  await using dir = await folder(GOOD)
  const files = await readBundleFiles(dir.path)
  assert.ok(files.ok)
  const manifest = manifestFor(files.value.files)
  await writeFile(join(dir.path, MANIFEST_NAME), manifest)
  assert.equal(manifest, `${hash('sha256', POLICY)}  regions/a.yaml\n${hash('sha256', SUITE)}  tests/a.yaml\n`)
  const revisionOf = async (): Promise<string> => {
    const opened = await openBundle(dir.path, { deps: testDeps() })
    assert.ok(opened.ok, JSON.stringify(opened))
    return opened.value.revision
  }
  assert.equal(await revisionOf(), hash('sha256', manifest))
  const before = await revisionOf()
  await rm(join(dir.path, MANIFEST_NAME))
  await writeFile(join(dir.path, 'regions/a.yaml'), `${POLICY}# a comment\n`)
  assert.notEqual(await revisionOf(), before)
})

test('a manifest must list exactly the files that are there', async () => {
  await using dir = await folder(GOOD)
  const files = await readBundleFiles(dir.path)
  assert.ok(files.ok)
  const manifest = manifestFor(files.value.files)
  const withManifest = async (text: string, more: Readonly<Record<string, string>> = {}): Promise<string[]> => {
    await using copy = await folder({ ...GOOD, ...more, [MANIFEST_NAME]: text })
    return codes(await openBundle(copy.path, { deps: testDeps() }))
  }
  assert.deepEqual(await withManifest(manifest), [])
  const bad = [
    '',
    'nonsense\n',
    manifest.trimEnd(),
    manifest.replace(/^[0-9a-f]/, 'g'),
    manifest + manifest,
    manifest.split('\n').toReversed().join('\n'),
    manifest.replace('regions/a', '../regions/a'),
    manifest.replace(/^[0-9a-f]{64}/, '0'.repeat(64)),
  ]
  for (const text of bad)
    assert.deepEqual([...new Set(await withManifest(text))], ['bad-manifest'], JSON.stringify(text.slice(0, 80)))
  assert.deepEqual(await withManifest(manifest, { 'regions/extra.yaml': POLICY }), ['bad-manifest'])
  assert.deepEqual(await withManifest(`${manifest}${'0'.repeat(64)}  z.yaml\n`), ['bad-manifest'])
  assert.ok(!parseManifest(`${'0'.repeat(64)}  /etc/passwd\n`).ok)
})

const { publicKey, privateKey } = generateKeyPairSync('ed25519')
const pem = (key: typeof publicKey, type: 'spki' | 'pkcs8'): string => key.export({ type, format: 'pem' })

test('with a public key configured nothing unsigned, altered or signed by another key goes live', async () => {
  await using dir = await folder(GOOD)
  const files = await readBundleFiles(dir.path)
  assert.ok(files.ok)
  const manifest = manifestFor(files.value.files)
  const signature = signManifest(manifest, readPrivateKey(pem(privateKey, 'pkcs8')))
  const trusted = readPublicKey(pem(publicKey, 'spki'))
  const open = (over: Partial<BundleFiles>): string[] =>
    codes(openFiles({ files: files.value.files, ...over }, { deps: testDeps(), publicKey: trusted }))
  assert.deepEqual(open({ manifest, signature }), [])
  assert.deepEqual(open({}), ['bad-signature'])
  assert.deepEqual(open({ manifest }), ['bad-signature'])
  const other = signManifest(manifest, generateKeyPairSync('ed25519').privateKey)
  const flipped = `A${signature.slice(1)}` === signature ? `B${signature.slice(1)}` : `A${signature.slice(1)}`
  for (const bad of [other, flipped, '', 'nonsense', signature.slice(4), `${signature}AAAA`, ` ${signature}=`])
    assert.deepEqual(open({ manifest, signature: bad }), ['bad-signature'], bad)
  const [first] = files.value.files
  assert.ok(first !== undefined)
  const altered = [{ ...first, bytes: new TextEncoder().encode(`${POLICY}\n`) }, ...files.value.files.slice(1)]
  assert.deepEqual(
    codes(openFiles({ files: altered, manifest, signature }, { deps: testDeps(), publicKey: trusted })),
    ['bad-manifest'],
  )
  assert.ok(verifyManifest(manifest, signature, trusted))
})

test('keys of another kind, or no keys, are refused by name', () => {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
  for (const text of ['', 'nonsense', pem(rsa.publicKey, 'spki')])
    assert.throws(() => readPublicKey(text), { code: 'POLICY_SIGNATURE' })
  assert.throws(() => readPrivateKey(pem(publicKey, 'spki')), { code: 'POLICY_SIGNATURE' })
})

test('one file holds a whole bundle and says the same', async () => {
  await using dir = await folder(GOOD)
  const files = await readBundleFiles(dir.path)
  assert.ok(files.ok)
  const manifest = manifestFor(files.value.files)
  const signature = signManifest(manifest, privateKey)
  const bytes = writeBundleFile({ files: files.value.files, manifest, signature })
  const read = readBundleFile(bytes)
  assert.ok(read.ok)
  assert.deepEqual(read.value, { files: files.value.files, manifest, signature })
  await writeFile(join(dir.path, 'x.bundle'), bytes)
  const [one, two] = [
    await openBundle(join(dir.path, 'x.bundle'), { deps: testDeps(), publicKey }),
    await openBundle(dir.path, { deps: testDeps() }),
  ]
  assert.ok(one.ok && two.ok && one.value.revision === two.value.revision)
  const text = new TextDecoder().decode(bytes)
  const bad = [
    '',
    '{}',
    '[]',
    'null',
    text.replace('bundle/1', 'bundle/2'),
    text.replace('"files"', '"extra": 1, "files"'),
    text.replace('regions/a.yaml"', '../a.yaml"'),
    text.slice(0, -3),
    text.replace('"manifest"', '"manifest": "x", "manifest"'),
  ]
  for (const broken of bad) assert.ok(!readBundleFile(new TextEncoder().encode(broken)).ok, broken.slice(0, 60))
  assert.equal(SIGNATURE_NAME.startsWith(MANIFEST_NAME), true)
})

test('HMAC keys: one file each, long enough, without the line end nobody meant', async () => {
  const key = 'x'.repeat(40)
  await using dir = await folder({ 'phone-v2': `${key}\n`, 'users.v1': key, '.hidden': 'short' })
  const keyring = await loadKeyring(dir.path)
  assert.deepEqual([...keyring.keys.keys()], ['phone-v2', 'users.v1'])
  const deps = policyDeps(keyring)
  const data = new TextEncoder().encode('13800138000')
  assert.deepEqual(deps.hmac('phone-v2', data), deps.hmac('users.v1', data), 'the line end is no part of the key')
  assert.deepEqual(
    deps.hmac('phone-v2', data),
    new Uint8Array(createHmac('sha256', key).update('13800138000').digest()),
  )
  assert.equal(deps.hmac('none', data), undefined)
  assert.equal(deps.keyFingerprint('none'), undefined)
  assert.ok(!(deps.keyFingerprint('phone-v2') ?? '').includes(key.slice(0, 8)))
  for (const files of [{ short: 'x'.repeat(31) }, { 'Bad Name': key }, { large: 'x'.repeat(5000) }]) {
    await using bad = await folder(files)
    await assert.rejects(loadKeyring(bad.path), { code: 'POLICY_KEYS' })
  }
  await assert.rejects(loadKeyring(join(dir.path, 'nowhere')), { code: 'POLICY_KEYS' })
})
