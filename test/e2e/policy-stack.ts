// A stack whose policy comes from a NATS KV bucket, signed, as an operator would publish it.
// Owns: the signing key, publishing bundles, a second gateway, and reading what processes expose.
// Refuses: what is in a bundle and what is expected of it.

import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Kvm, type KV } from '@nats-io/kv'
import { connect, type NatsConnection } from '@nats-io/transport-node'
import { writeBundleFile } from '#policies/node/bundle-files.ts'
import { manifestFor } from '#policies/node/open-bundle.ts'
import { signManifest } from '#policies/node/signature.ts'
import { reservePort } from '../support/ports.ts'
import { scratchDir } from '../support/process.ts'
import { type Server, startServer } from '../support/server.ts'
import { ONE, Stack } from './stack.ts'

export const BUCKET = 'rules'
export const CLUSTER = 'sz-edge-1'

export type PolicyStackOptions = {
  readonly gatewayFlags?: readonly string[]
  readonly agentFlags?: readonly string[]
  /** Options of Node itself for the programs. */
  readonly node?: { readonly agent?: readonly string[]; readonly gateway?: readonly string[] }
  /** Bundles published before anything starts, by key; `live` is what agent and gateway enforce. */
  readonly bundles: Readonly<Record<string, string>>
}

export class PolicyStack implements AsyncDisposable {
  readonly stack: Stack
  readonly kv: KV
  readonly nc: NatsConnection
  readonly dir: string
  readonly #owned: AsyncDisposableStack
  readonly #key: KeyObject
  readonly #adminPort: number

  private constructor(
    owned: AsyncDisposableStack,
    parts: { stack: Stack; kv: KV; nc: NatsConnection; dir: string; key: KeyObject; adminPort: number },
  ) {
    this.#owned = owned
    this.stack = parts.stack
    this.kv = parts.kv
    this.nc = parts.nc
    this.dir = parts.dir
    this.#key = parts.key
    this.#adminPort = parts.adminPort
  }

  static async start(options: PolicyStackOptions): Promise<PolicyStack> {
    await using owned = new AsyncDisposableStack()
    const dir = owned.use(await scratchDir('policy-e2e')).path
    const { privateKey, publicKey } = generateKeyPairSync('ed25519')
    const pem = join(dir, 'signing.pub')
    await writeFile(pem, publicKey.export({ type: 'spki', format: 'pem' }))
    const adminPort = owned.use(await reservePort()).port
    const both = ['--policy-public-key', pem]
    const stack = owned.use(
      await Stack.start({
        clusters: ONE,
        policies: `kv://${BUCKET}/live`,
        agentFlags: [...both, '--admin', `127.0.0.1:${adminPort}`, ...(options.agentFlags ?? [])],
        gatewayFlags: [...both, ...(options.gatewayFlags ?? [])],
        ...(options.node === undefined ? {} : { node: options.node }),
        start: { agents: false, gateway: false },
      }),
    )
    const nc = await connect({ servers: stack.nats.directUrl })
    owned.defer(() => nc.close())
    const kv = await new Kvm(nc).create(BUCKET, { history: 10 })
    const made = new PolicyStack(owned.move(), { stack, kv, nc, dir, key: privateKey, adminPort })
    try {
      for (const [name, document] of Object.entries(options.bundles)) await made.publish(document, name)
      await stack.startGateway()
      await stack.startAgent(stack.first)
    } catch (error) {
      await made[Symbol.asyncDispose]()
      throw error
    }
    return made
  }

  bundle(document: string, signed = true): Uint8Array {
    const files = [{ path: 'sz.yaml', bytes: Buffer.from(document) }]
    const manifest = manifestFor(files)
    return writeBundleFile({ files, manifest, ...(signed ? { signature: signManifest(manifest, this.#key) } : {}) })
  }

  /** Resolves when the hub stored it. */
  async publish(document: string, key = 'live', signed = true): Promise<void> {
    await this.kv.put(key, this.bundle(document, signed))
  }

  /** One more gateway with the same settings on a port of its own; its WebSocket URL. */
  async secondGateway(): Promise<string> {
    const { port } = this.#owned.use(await reservePort())
    const root = fileURLToPath(new URL('../../', import.meta.url))
    const args = this.stack.gatewayArgs()
    args[args.indexOf('--listen') + 1] = `127.0.0.1:${port}`
    const server: Server = await startServer({
      name: 'second gateway',
      command: process.execPath,
      args: args.map((arg) => (arg.endsWith('/main.ts') ? join(root, arg) : arg)),
      env: { PATH: '/usr/bin:/bin', HOME: '/nonexistent' },
      ready: (started) => started.waitForLine(/"event":"listening"/),
    })
    this.#owned.use(server)
    return `ws://127.0.0.1:${port}/v1/watch`
  }

  gatewayText(path: string): Promise<string> {
    return textOf(`${this.stack.httpUrl}${path}`)
  }
  agentText(path: string): Promise<string> {
    return textOf(`http://127.0.0.1:${this.#adminPort}${path}`)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned.disposeAsync()
  }
}

const textOf = async (url: string): Promise<string> => (await fetch(url)).text()

/** Looks again until it is so; the last text is in the message. */
export async function eventually(read: () => Promise<string>, pattern: RegExp, withinMs = 15_000): Promise<string> {
  const until = performance.now() + withinMs
  for (;;) {
    const text = await read()
    if (pattern.test(text)) return text
    if (performance.now() > until)
      throw new Error(`nothing matched ${pattern} within ${withinMs} ms: ${text.slice(-2_000)}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

/** A document for sz with the given rules, each one line of flow YAML; where they go stands in each. */
export const policy = (...rules: readonly string[]): string =>
  [
    'apiVersion: watch-policy/v1',
    'kind: RegionPolicy',
    'metadata: { name: live-sz, owner: tests }',
    'spec:',
    '  source: { region: sz, regime: PIPL }',
    '  mode: enforce',
    '  rules:',
    ...rules.map((rule) => `    - ${rule}`),
    '',
  ].join('\n')

const BASIS = 'basis: { kind: no-personal-data, ref: T-1 }'
export const allow = (id: string, keys: string, regions: string, more = ''): string =>
  `{ id: ${id}, effect: allow, match: { keys: ["${keys}"], to: { regions: [${regions}] } }, ${more}${BASIS} }`
