// What a small edge region does all day, as a sequence of etcd operations.
// Owns: the stories (registrations, configuration, devices, orders, health records), their keys and their values.
// Does not own: talking to etcd or time passing (main.ts); the same random source tells the same stories.

import { bankCard, hongKongId, type Next, phone, residentId } from './personal.ts'

/** A lease is known by a name of ours; the writer maps it to etcd's id. */
export type Operation =
  | { readonly kind: 'register'; readonly lease: string; readonly ttlSeconds: number; readonly puts: readonly Put[] }
  /** The instance is gone without a word: its lease is no longer kept alive and runs out. */
  | { readonly kind: 'crash'; readonly lease: string }
  /** The instance says goodbye: the lease is revoked, its keys go at once. */
  | { readonly kind: 'leave'; readonly lease: string }
  /** Puts and deletes of one transaction: one revision, whatever the number of keys. */
  | { readonly kind: 'write'; readonly puts: readonly Put[]; readonly deletes?: readonly string[] }

export interface Put {
  readonly key: string
  readonly value: string
}

export interface Site {
  readonly cluster: string
  readonly region: string
  readonly city: string
  /** First two octets of the addresses of its instances. */
  readonly network: string
}

export interface World {
  /** The state a region has before anybody watches. */
  open(): Operation[]
  /** The next thing that happens; `at` is a timestamp for values that carry one. */
  next(at: Date): Operation
}

const SERVICES = ['user', 'order', 'payment', 'inventory'] as const
const MICRO = ['go.micro.srv.greeter', 'go.micro.srv.pricing'] as const
const SKUS = ['tea-tieguanyin', 'tea-puer', 'cup-celadon', 'kettle-iron'] as const
const ORDER_STATES = ['created', 'paid', 'shipped', 'delivered'] as const
const LEASE_TTL = 10
const MAX_ORDERS = 40
const MAX_INSTANCES = 12

interface Order {
  readonly id: string
  readonly buyer: Readonly<Record<string, string>>
  state: number
}

const json = (value: unknown): string => JSON.stringify(value)

export function createWorld(site: Site, random: Next): World {
  const instances: string[] = []
  const orders: Order[] = []
  const stock = new Map<string, number>(SKUS.map((sku) => [sku, 500]))
  let serial = 0

  const pick = <T>(list: readonly T[]): T => {
    const item = list[Math.floor(random() * list.length)]
    if (item === undefined) throw new RangeError('pick: the list is empty')
    return item
  }
  const upTo = (high: number): number => Math.floor(random() * high)
  const hex = (length: number): string => Array.from({ length }, () => upTo(16).toString(16)).join('')
  const uuid = (): string => [8, 4, 4, 4, 12].map(hex).join('-')
  const address = (): string => `${site.network}.${upTo(250) + 1}.${upTo(250) + 1}`

  /** The layout of Kratos: /microservices/<name>/<id>. */
  const kratosInstance = (): Operation => {
    const name = pick(SERVICES)
    const id = uuid()
    const host = address()
    const value = json({
      id,
      name,
      version: `v1.${upTo(9)}.0`,
      metadata: { region: site.region },
      endpoints: [`http://${host}:8000`, `grpc://${host}:9000`],
    })
    return registered(id, [{ key: `/microservices/${name}/${id}`, value }])
  }

  /** The layout of go-micro: /micro/registry/<name>/<node>. */
  const microNode = (): Operation => {
    const name = pick(MICRO)
    const id = `${name}-${uuid()}`
    const value = json({
      name,
      version: 'latest',
      metadata: null,
      endpoints: [],
      nodes: [
        {
          id,
          address: `${address()}:${40_000 + upTo(9_000)}`,
          metadata: { protocol: 'grpc', registry: 'etcd', server: 'grpc', transport: 'grpc' },
        },
      ],
    })
    return registered(id, [{ key: `/micro/registry/${name}/${id}`, value }])
  }

  const registered = (lease: string, puts: readonly Put[]): Operation => {
    instances.push(lease)
    return { kind: 'register', lease, ttlSeconds: LEASE_TTL, puts }
  }

  const lose = (kind: 'crash' | 'leave'): Operation => {
    const [lease] = instances.splice(upTo(instances.length), 1)
    return lease === undefined ? kratosInstance() : { kind, lease }
  }

  const configuration = (): Operation => {
    const service = pick(SERVICES)
    return pick<() => Operation>([
      () => write(`/config/${service}/log-level`, pick(['debug', 'info', 'warn'])),
      () => write(`/config/${service}/limits`, json({ rps: 100 * (1 + upTo(20)), burst: 50 * (1 + upTo(8)) })),
      () => write(`/config/flags/new-checkout`, json({ enabled: random() < 0.5, percent: 5 * upTo(21) })),
    ])()
  }

  const device = (at: Date): Operation => {
    const name = `${pick(['thermo', 'door', 'meter'])}-${upTo(12)}`
    const value = {
      temperature: Number((18 + random() * 10).toFixed(1)),
      battery: upTo(101),
      online: random() > 0.05,
      at: at.toISOString(),
    }
    return write(`/devices/${name}/state`, json(value))
  }

  /** Three keys, one revision: the order, its status for the outside, and the stock it takes. */
  const newOrder = (at: Date): Operation => {
    serial += 1
    const id = `${site.region}${at.getTime().toString(36)}${serial}`
    const order: Order = {
      id,
      state: 0,
      buyer: {
        name: `Sample Person ${serial}`,
        idNumber: random() < 0.6 ? residentId(random) : hongKongId(random),
        phone: phone(random),
        address: `${upTo(900)} Sample Road, ${site.city}`,
        card: bankCard(random),
      },
    }
    orders.push(order)
    const sku = pick(SKUS)
    const left = (stock.get(sku) ?? 0) - 1
    stock.set(sku, left > 0 ? left : 500)
    return {
      kind: 'write',
      puts: [
        { key: `/orders/${id}/detail`, value: json({ sku, count: 1, ...order.buyer, sample: true }) },
        { key: `/orders/${id}/status`, value: status(order, at) },
        { key: `/inventory/${sku}`, value: json({ left: stock.get(sku) }) },
      ],
    }
  }

  const advanceOrder = (at: Date): Operation => {
    const order = orders[0]
    if (order === undefined || (orders.length < MAX_ORDERS && random() < 0.4)) return newOrder(at)
    if (order.state === ORDER_STATES.length - 1) {
      orders.shift()
      return { kind: 'write', puts: [], deletes: [`/orders/${order.id}/detail`, `/orders/${order.id}/status`] }
    }
    const moving = pick(orders)
    moving.state = Math.min(moving.state + 1, ORDER_STATES.length - 1)
    return write(`/orders/${moving.id}/status`, status(moving, at))
  }

  const status = (order: Order, at: Date): string => {
    const { idNumber, phone: number, address: street } = order.buyer
    const state = ORDER_STATES[order.state]
    return json({
      state,
      class: 'normal',
      idNumber,
      phone: number,
      address: street,
      at: at.toISOString(),
      sample: true,
    })
  }

  /** Policy lets this out of no region, in no form: whoever sees it downstream has found a defect. */
  const health = (at: Date): Operation =>
    write(
      `/health/clinic-${upTo(3)}/record-${upTo(30)}`,
      json({ patient: residentId(random), note: 'sample record, never to leave its region', at: at.toISOString() }),
    )

  const write = (key: string, value: string): Operation => ({ kind: 'write', puts: [{ key, value }] })

  return {
    open: () => [
      ...Array.from({ length: 4 }, kratosInstance),
      ...Array.from({ length: 2 }, microNode),
      {
        kind: 'write',
        puts: SERVICES.map((service) => ({ key: `/config/${service}/log-level`, value: 'info' })),
      },
      { kind: 'write', puts: SKUS.map((sku) => ({ key: `/inventory/${sku}`, value: json({ left: 500 }) })) },
    ],
    next: (at) => {
      const roll = random()
      if (roll < 0.3) return device(at)
      if (roll < 0.6) return advanceOrder(at)
      if (roll < 0.72) return configuration()
      if (roll < 0.8) return health(at)
      if (instances.length > MAX_INSTANCES || roll >= 0.92) return lose(random() < 0.5 ? 'crash' : 'leave')
      return random() < 0.7 ? kratosInstance() : microNode()
    },
  }
}
