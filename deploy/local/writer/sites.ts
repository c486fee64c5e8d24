// The writer's command-line form of a region. Owns its text form in both directions.

import type { Site } from './world.ts'

export interface WriterSite extends Site {
  readonly url: string
}

export const formatSite = (site: WriterSite): string =>
  [site.cluster, site.region, site.city, site.network, site.url].join('|')

export function parseSite(text: string): WriterSite {
  const [cluster, region, city, network, url, ...rest] = text.split('|')
  if (
    cluster === undefined ||
    region === undefined ||
    city === undefined ||
    network === undefined ||
    url === undefined
  ) {
    throw new RangeError(`--site "${text}": write cluster|region|city|network|url`)
  }
  if (rest.length > 0) throw new RangeError(`--site "${text}": too many parts`)
  return { cluster, region, city, network, url }
}
