// Files to a bundle that may go live: verified, parsed, compiled, and its own tests passed.
// Owns: the order of these steps, and that any doubt refuses the whole bundle. The caller keeps the old one and says so.

import type { KeyObject } from 'node:crypto'
import { compileBundle } from '../engine/compile.ts'
import { parsePolicy } from '../engine/document.ts'
import { decodeJson } from '../engine/json-decode.ts'
import { MAX_DOCUMENT_BYTES } from '../engine/bounds.ts'
import { MANIFEST_NAME, manifestOf, parseManifest, SIGNATURE_NAME } from '../engine/manifest.ts'
import { parseSuite } from '../engine/suite-document.ts'
import { runSuites } from '../engine/suite.ts'
import type { SuiteResult } from '../engine/suite.ts'
import type { ParsedDocument, PolicyBundle, PolicyDeps, PolicyIssue, Result } from '../engine/types.ts'
import { readBundleFiles } from './bundle-files.ts'
import type { BundleFile, BundleFiles } from './bundle-files.ts'
import { sha256Hex, testDeps } from './hashing.ts'
import { verifyManifest } from './signature.ts'
import { parseYaml } from './yaml.ts'

export type OpenOptions = {
  readonly deps: PolicyDeps
  /** When given, a manifest signed by its private key is required. */
  readonly publicKey?: KeyObject | undefined
  /** Default true. False only for tools that run the tests themselves. */
  readonly selfTest?: boolean
}

/** From a directory or a bundle file on disk. Resolves to issues, never rejects, for anything wrong with the bundle. */
export async function openBundle(path: string, options: OpenOptions): Promise<Result<PolicyBundle, PolicyIssue[]>> {
  const files = await readBundleFiles(path)
  return files.ok ? openFiles(files.value, options) : files
}

export function openFiles(bundle: BundleFiles, options: OpenOptions): Result<PolicyBundle, PolicyIssue[]> {
  const distrust = verify(bundle, options.publicKey)
  if (distrust.length > 0) return { ok: false, error: distrust }
  const parsed = parseFiles(bundle.files)
  if (!parsed.ok) return parsed
  const compiled = compileBundle(parsed.value, options.deps)
  if (!compiled.ok || options.selfTest === false) return compiled
  const tested = testDocuments(parsed.value)
  if (!tested.ok) return tested
  const failures = tested.value.flatMap(failureIssues)
  return failures.length > 0 ? { ok: false, error: failures } : compiled
}

/** The suites of the documents, run under test keys. */
export function testDocuments(documents: readonly ParsedDocument[]): Result<readonly SuiteResult[], PolicyIssue[]> {
  const bundle = compileBundle(documents, testDeps())
  return bundle.ok ? { ok: true, value: runSuites(bundle.value) } : bundle
}

function failureIssues(result: SuiteResult): PolicyIssue[] {
  const issue = (message: string): PolicyIssue => ({ level: 'error', code: 'failing-test', file: result.path, message })
  const failed = result.cases.filter((c) => c.mismatches.length > 0)
  return [
    ...(result.problem === undefined ? [] : [issue(result.problem)]),
    ...failed
      .slice(0, 20)
      .map((c) => issue(`case ${JSON.stringify(c.name)} fails on ${c.mismatches.map((m) => m.field).join(', ')}`)),
  ]
}

/** What keeps the files from being trusted: each must be listed with its digest, none may be missing, the signature must hold. */
function verify({ files, manifest, signature }: BundleFiles, publicKey: KeyObject | undefined): PolicyIssue[] {
  const issue = (code: PolicyIssue['code'], file: string, message: string): PolicyIssue => ({
    level: 'error',
    code,
    file,
    message,
  })
  if (publicKey !== undefined) {
    if (manifest === undefined)
      return [
        issue('bad-signature', MANIFEST_NAME, 'is missing; a public key is configured, so the bundle must be signed'),
      ]
    if (signature === undefined)
      return [
        issue('bad-signature', SIGNATURE_NAME, 'is missing; a public key is configured, so the bundle must be signed'),
      ]
    if (!verifyManifest(manifest, signature, publicKey))
      return [issue('bad-signature', SIGNATURE_NAME, 'does not verify under the configured public key')]
  }
  if (manifest === undefined) return []
  const listed = parseManifest(manifest)
  if (!listed.ok) return listed.error
  const issues = files.flatMap(({ path, bytes }) => {
    const digest = listed.value.get(path)
    if (digest === undefined) return [issue('bad-manifest', path, 'is not listed in the manifest')]
    return digest === sha256Hex(bytes) ? [] : [issue('bad-manifest', path, 'is not the file the manifest lists')]
  })
  const present = new Set(files.map((file) => file.path))
  for (const path of listed.value.keys())
    if (!present.has(path)) issues.push(issue('bad-manifest', path, 'is listed in the manifest and missing'))
  return issues.slice(0, 50)
}

export function manifestFor(files: readonly BundleFile[]): string {
  return manifestOf(files.map(({ path, bytes }) => ({ path, digest: sha256Hex(bytes) })))
}

/** Parses all files; what a file is follows from its name (JSON: a value schema) and its `kind`. */
export function parseFiles(files: readonly BundleFile[]): Result<ParsedDocument[], PolicyIssue[]> {
  const documents: ParsedDocument[] = []
  const issues: PolicyIssue[] = []
  for (const file of files) {
    const parsed = parseFile(file)
    if (parsed.ok) documents.push(parsed.value)
    else for (const issue of parsed.error) issues.push(issue)
  }
  if (!documents.some((d) => d.kind === 'policy') && issues.length === 0) {
    issues.push({
      level: 'error',
      code: 'bad-document',
      file: '',
      message: 'the bundle holds no document of kind RegionPolicy',
    })
  }
  return issues.length > 0 ? { ok: false, error: issues } : { ok: true, value: documents }
}

function parseFile({ path, bytes }: BundleFile): Result<ParsedDocument, PolicyIssue[]> {
  const digest = sha256Hex(bytes)
  const bad = (code: PolicyIssue['code'], message: string): Result<never, PolicyIssue[]> => ({
    ok: false,
    error: [{ level: 'error', code, file: path, message }],
  })
  if (path.endsWith('.json')) {
    try {
      return { ok: true, value: { kind: 'schema', path, digest, schema: decodeJson(bytes, MAX_DOCUMENT_BYTES) } }
    } catch {
      return bad('bad-schema', 'is no JSON, or has a name twice in one object')
    }
  }
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    return bad('bad-yaml', 'is not UTF-8')
  }
  const raw = parseYaml(text)
  if (!raw.ok) return bad('bad-yaml', raw.error)
  const kind = typeof raw.value === 'object' && raw.value !== null && 'kind' in raw.value ? raw.value.kind : undefined
  if (kind === 'PolicySuite') {
    const suite = parseSuite(raw.value, path)
    return suite.ok ? { ok: true, value: { kind: 'suite', path, digest, suite: suite.value } } : suite
  }
  const policy = parsePolicy(raw.value, path)
  return policy.ok ? { ok: true, value: { kind: 'policy', path, digest, policy: policy.value } } : policy
}
