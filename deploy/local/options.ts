// What can be said to `npm start`.
// Owns: flags, their defaults and their limits. Does not own: whether a port is free (free-ports.ts).

import { parseArgs } from 'node:util'

export interface LocalOptions {
  readonly fresh: boolean
  readonly writer: boolean
  readonly once: boolean
  readonly help: boolean
  /** Where data and logs go; undefined for the checkout's own place. */
  readonly dir: string | undefined
  /** Directory of the single executables to run; undefined runs the sources. */
  readonly executables: string | undefined
  readonly gatewayPort: number
  readonly natsPort: number
  readonly etcdPorts: readonly [sz: number, gz: number, mo: number]
  /** Operations per second and region. */
  readonly rate: number
}

export const USAGE = `npm start -- [options]

  --fresh                   wipe the data of earlier runs first
  --no-writer               leave the sample writer out
  --once                    start, prove that a write in every region reaches a subscriber, stop
  --gateway-port 7400       HTTP, WebSocket, SSE, /metrics, /livez, /readyz
  --nats-port 7422
  --etcd-ports 7501,7502,7503
                            clients of sz-edge-1, gz-edge-1, mo-edge-1
  --dir .deltawatch/local   data and logs; give a second stack its own
  --executables dist        run these instead of the sources (npm run build makes them)
  --rate 4                  sample operations per second and region
  --help
`

/** Throws a RangeError or TypeError whose message names the option. */
export function parseOptions(args: readonly string[]): LocalOptions {
  const { values } = parseArgs({
    args: [...args],
    allowNegative: true,
    options: {
      fresh: { type: 'boolean', default: false },
      writer: { type: 'boolean', default: true },
      once: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
      'gateway-port': { type: 'string', default: '7400' },
      'nats-port': { type: 'string', default: '7422' },
      'etcd-ports': { type: 'string', default: '7501,7502,7503' },
      dir: { type: 'string' },
      executables: { type: 'string' },
      rate: { type: 'string', default: '4' },
    },
  })
  const [sz, gz, mo, ...rest] = values['etcd-ports'].split(',').map((port) => parsePort('--etcd-ports', port))
  if (sz === undefined || gz === undefined || mo === undefined || rest.length > 0) {
    throw new RangeError(`--etcd-ports ${values['etcd-ports']}: give three ports, separated by commas`)
  }
  const options: LocalOptions = {
    fresh: values.fresh,
    writer: values.writer,
    once: values.once,
    help: values.help,
    dir: values.dir,
    executables: values.executables,
    gatewayPort: parsePort('--gateway-port', values['gateway-port']),
    natsPort: parsePort('--nats-port', values['nats-port']),
    etcdPorts: [sz, gz, mo],
    rate: parseRate(values.rate),
  }
  const ports = [options.gatewayPort, options.natsPort, ...options.etcdPorts]
  const twice = ports.find((port, index) => ports.indexOf(port) !== index)
  if (twice !== undefined) throw new RangeError(`port ${twice} is given to two parts; every part needs its own`)
  return options
}

function parsePort(option: string, text: string): number {
  const port = Number(text)
  if (!Number.isInteger(port) || port < 1 || port > 65_535)
    throw new RangeError(`${option} ${text}: give ports from 1 to 65535`)
  return port
}

function parseRate(text: string): number {
  const rate = Number(text)
  if (!(rate > 0 && rate <= 1_000)) throw new RangeError(`--rate ${text}: give operations per second, at most 1000`)
  return rate
}
