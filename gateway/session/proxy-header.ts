// PROXY protocol, versions 1 and 2: what a balancer says about the peer before the peer's own first byte.
// Owns: parsing, as a pure function over the bytes so far. Refuses: trust: it is read only where the configuration says
// that every connection comes through a balancer.

import { isIP } from 'node:net'

export type ProxyHeader =
  /** Not complete yet. */
  | { readonly kind: 'more' }
  /** `address` undefined: a health check of the balancer itself (LOCAL, UNKNOWN). */
  | { readonly kind: 'ok'; readonly length: number; readonly address: string | undefined }
  | { readonly kind: 'bad'; readonly why: string }

const V2 = Buffer.from([0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a])
const V1 = Buffer.from('PROXY ')
const V1_MAX = 107
/** Type-length-values may follow the addresses; more than this is nobody's balancer. */
const V2_MAX = 4_096

export function parseProxyHeader(bytes: Buffer): ProxyHeader {
  if (startsLike(bytes, V2)) return bytes.length < 16 ? { kind: 'more' } : version2(bytes)
  if (startsLike(bytes, V1)) return version1(bytes)
  return { kind: 'bad', why: 'the connection does not begin with a PROXY header' }
}

const startsLike = (bytes: Buffer, signature: Buffer): boolean => {
  const length = Math.min(bytes.length, signature.length)
  return bytes.subarray(0, length).equals(signature.subarray(0, length))
}

function version1(bytes: Buffer): ProxyHeader {
  const end = bytes.indexOf('\r\n')
  if (end < 0) return bytes.length >= V1_MAX ? { kind: 'bad', why: 'the PROXY line does not end' } : { kind: 'more' }
  if (end > V1_MAX - 2) return { kind: 'bad', why: 'the PROXY line is too long' }
  const [, protocol, source, ...rest] = bytes.toString('latin1', 0, end).split(' ')
  const length = end + 2
  if (protocol === 'UNKNOWN') return { kind: 'ok', length, address: undefined }
  const family = protocol === 'TCP4' ? 4 : protocol === 'TCP6' ? 6 : 0
  if (family === 0 || source === undefined || isIP(source) !== family || rest.length !== 3) {
    return { kind: 'bad', why: 'the PROXY line is not "PROXY TCP4|TCP6 source destination port port"' }
  }
  return { kind: 'ok', length, address: source }
}

function version2(bytes: Buffer): ProxyHeader {
  const versionAndCommand = bytes[12] as number
  const family = (bytes[13] as number) >> 4
  const addressBytes = bytes.readUInt16BE(14)
  if (versionAndCommand >> 4 !== 2 || (versionAndCommand & 15) > 1)
    return { kind: 'bad', why: 'the PROXY version or command is unknown' }
  if (addressBytes > V2_MAX) return { kind: 'bad', why: 'the PROXY header is too long' }
  const length = 16 + addressBytes
  if (bytes.length < length) return { kind: 'more' }
  const local = (versionAndCommand & 15) === 0
  if (local || family === 0) return { kind: 'ok', length, address: undefined }
  if (family === 1 && addressBytes >= 12) return { kind: 'ok', length, address: [...bytes.subarray(16, 20)].join('.') }
  if (family === 2 && addressBytes >= 36) return { kind: 'ok', length, address: v6(bytes.subarray(16, 32)) }
  return { kind: 'bad', why: 'the PROXY addresses are neither IPv4 nor IPv6' }
}

function v6(bytes: Buffer): string {
  const groups = Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(i * 2).toString(16))
  return groups.join(':')
}
