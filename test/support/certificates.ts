// Throw-away X.509 certificates, for etcd and NATS over TLS in tests.
// Owns: a private authority and what it issues, valid for loopback. Does not own: trust of any kind; keys live in scratch files.
// Written out in DER by hand, because Node can read certificates but not make them.

import { generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'

export interface CertificateFiles {
  /** Paths of PEM files. */
  readonly cert: string
  readonly key: string
  readonly ca: string
}

export interface IssueOptions {
  /** Common name; etcd takes it for the user's name when clients authenticate by certificate. */
  readonly name: string
  /** Seconds from now; negative for a certificate that has expired. Default one day. */
  readonly validForSeconds?: number
}

export interface Authority {
  /** Path of the authority's own certificate. */
  readonly ca: string
  /** A certificate for 127.0.0.1, ::1 and localhost, good for servers and clients. */
  issue(options: IssueOptions): Promise<CertificateFiles>
}

const DAY = 86_400

export async function createAuthority(dir: string, name = 'deltawatch test authority'): Promise<Authority> {
  const keys = generateKeyPairSync('ec', { namedCurve: 'prime256v1' })
  const ca = join(dir, `${name.replaceAll(' ', '-')}.pem`)
  await writeFile(
    ca,
    pem(certificate({ subject: name, issuer: name, keys, signer: keys.privateKey, ca: true, seconds: DAY })),
  )
  let issued = 0
  return {
    ca,
    issue: async ({ name: subject, validForSeconds = DAY }) => {
      issued += 1
      const own = generateKeyPairSync('ec', { namedCurve: 'prime256v1' })
      const der = certificate({
        subject,
        issuer: name,
        keys: own,
        signer: keys.privateKey,
        ca: false,
        seconds: validForSeconds,
      })
      const base = join(dir, `${subject.replaceAll(/[^a-z0-9]/gi, '-')}-${issued}`)
      const files = { cert: `${base}.pem`, key: `${base}.key`, ca }
      await writeFile(files.cert, pem(der))
      await writeFile(files.key, own.privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 })
      return files
    },
  }
}

interface Parts {
  readonly subject: string
  readonly issuer: string
  readonly keys: { readonly publicKey: KeyObject }
  readonly signer: KeyObject
  readonly ca: boolean
  readonly seconds: number
}

function certificate({ subject, issuer, keys, signer, ca, seconds }: Parts): Buffer {
  const now = Date.now()
  const end = now + seconds * 1_000
  const begin = Math.min(now, end) - 3_600_000
  const signature = sequence(oid('1.2.840.10045.4.3.2')) // ECDSA with SHA-256
  const loopback = [
    tag(0x82, Buffer.from('localhost')),
    tag(0x87, Buffer.from([127, 0, 0, 1])),
    tag(0x87, ipv6Loopback()),
  ]
  const extensions = [
    extension('2.5.29.19', sequence(...(ca ? [tag(0x01, Buffer.from([0xff]))] : [])), true), // basic constraints
    extension('2.5.29.17', sequence(...loopback)), // subject alternative names
    ...(ca ? [] : [extension('2.5.29.37', sequence(oid('1.3.6.1.5.5.7.3.1'), oid('1.3.6.1.5.5.7.3.2')))]), // server, client
  ]
  const body = sequence(
    tag(0xa0, integer(Buffer.from([2]))), // version 3
    integer(Buffer.concat([Buffer.from([0x40]), randomBytes(8)])),
    signature,
    commonName(issuer),
    sequence(time(begin), time(end)),
    commonName(subject),
    keys.publicKey.export({ type: 'spki', format: 'der' }),
    tag(0xa3, sequence(...extensions)),
  )
  return sequence(body, signature, bits(sign('sha256', body, signer)))
}

function tag(type: number, content: Buffer): Buffer {
  const { length } = content
  if (length < 0x80) return Buffer.concat([Buffer.from([type, length]), content])
  const size = length > 0xff ? [0x82, length >> 8, length & 0xff] : [0x81, length]
  return Buffer.concat([Buffer.from([type, ...size]), content])
}

const sequence = (...items: Buffer[]): Buffer => tag(0x30, Buffer.concat(items))
const integer = (bytes: Buffer): Buffer => tag(0x02, bytes)
const bits = (bytes: Buffer): Buffer => tag(0x03, Buffer.concat([Buffer.from([0]), bytes]))
const commonName = (name: string): Buffer =>
  sequence(tag(0x31, sequence(oid('2.5.4.3'), tag(0x0c, Buffer.from(name, 'utf8')))))
const extension = (id: string, value: Buffer, critical = false): Buffer =>
  sequence(oid(id), ...(critical ? [tag(0x01, Buffer.from([0xff]))] : []), tag(0x04, value))

/** GeneralizedTime, without fractions. */
const time = (ms: number): Buffer => tag(0x18, Buffer.from(new Date(ms).toISOString().replaceAll(/[-:T]|\.\d+/g, '')))

function ipv6Loopback(): Buffer {
  const address = Buffer.alloc(16)
  address[15] = 1
  return address
}

/** The first two numbers share a byte; the others are base 128, high bit set on all but the last byte. */
function oid(text: string): Buffer {
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number)
  const bytes = [first * 40 + second]
  for (const number of rest) {
    const digits = [number & 0x7f]
    for (let left = number >>> 7; left > 0; left >>>= 7) digits.unshift((left & 0x7f) | 0x80)
    bytes.push(...digits)
  }
  return tag(0x06, Buffer.from(bytes))
}

function pem(der: Buffer): string {
  const lines = der.toString('base64').replaceAll(/(.{64})(?!$)/g, '$1\n')
  return `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`
}
