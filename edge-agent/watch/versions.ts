// What a given etcd version can be trusted with.
// Owns: the table of watch bugs by the release that cured them, and the two questions the agent asks of a version.
// Refuses: talking to servers.

export type Version = readonly [major: number, minor: number, patch: number]

type Bug = { readonly name: string; readonly fixedIn: readonly Version[] }

/** A bug is cured at or above the named patch of the same minor line, and in every later minor line. */
const BUGS: readonly Bug[] = [
  {
    name: 'duplicate events to watchers (etcd#15248)',
    fixedIn: [
      [3, 4, 24],
      [3, 5, 8],
    ],
  },
  {
    name: 'manual bookmark not ordered with events (etcd#15220)',
    fixedIn: [
      [3, 4, 25],
      [3, 5, 8],
    ],
  },
  {
    name: 'watch travels back in time after a snapshot from the leader (etcd#15271)',
    fixedIn: [
      [3, 4, 25],
      [3, 5, 8],
    ],
  },
  {
    name: 'watch starved by reads on a shared TLS port (etcd#15402)',
    fixedIn: [
      [3, 4, 25],
      [3, 5, 8],
    ],
  },
  {
    name: 'events skipped when a slow watch meets compaction (etcd#17529)',
    fixedIn: [
      [3, 4, 31],
      [3, 5, 13],
    ],
  },
  {
    name: 'leases revoked by a stalled former leader (etcd#15247)',
    fixedIn: [
      [3, 4, 31],
      [3, 5, 13],
    ],
  },
  {
    name: 'revision decreases after a crash during compaction (etcd#17780)',
    fixedIn: [
      [3, 4, 32],
      [3, 5, 14],
    ],
  },
  {
    name: 'delete at the compaction revision dropped (etcd#18089, #19179)',
    fixedIn: [
      [3, 4, 36],
      [3, 5, 18],
    ],
  },
  {
    name: 'old events on a watch from a future revision (etcd#20221)',
    fixedIn: [
      [3, 4, 38],
      [3, 5, 22],
      [3, 6, 2],
    ],
  },
]

const OLDEST: Version = [3, 4, 0]
const ORDERED_PROGRESS: readonly Version[] = [
  [3, 4, 31],
  [3, 5, 13],
]

export function parseVersion(text: string): Version | undefined {
  const match = /^(\d{1,4})\.(\d{1,4})\.(\d{1,6})/.exec(text)
  return match === null ? undefined : [Number(match[1]), Number(match[2]), Number(match[3])]
}

/** Names of the known watch bugs a server of this version has. An unreadable version has all of them. */
export function knownWatchBugs(version: Version | undefined): readonly string[] {
  return BUGS.filter((bug) => version === undefined || !cured(version, bug.fixedIn)).map((bug) => bug.name)
}

/** Whether manual progress replies are ordered with events, so that they may prove a position. */
export const trustsManualProgress = (version: Version | undefined): boolean =>
  version !== undefined && cured(version, ORDERED_PROGRESS)

export const isSupported = (version: Version | undefined): boolean =>
  version !== undefined && compare(version, OLDEST) >= 0

function cured(version: Version, fixedIn: readonly Version[]): boolean {
  const sameLine = fixedIn.find((fix) => fix[0] === version[0] && fix[1] === version[1])
  if (sameLine !== undefined) return compare(version, sameLine) >= 0
  // A line with no fix of its own was cured before it branched off, if it is younger than every line that has one.
  return fixedIn.every((fix) => compare(version, fix) > 0)
}

const compare = (a: Version, b: Version): number => a[0] - b[0] || a[1] - b[1] || a[2] - b[2]
