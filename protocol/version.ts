// The wire version and the names a subscriber negotiates with.
// Owns: the one integer that both sides compare in hello/welcome, and its dated history.
// Refuses: feature flags; anything a version cannot express is a new frame or field (decoders skip unknown fields).
//
// History
//   1  2026-11-22  first version: channels, staged snapshots, bookmarks, vector cursors.

export const WIRE_VERSION = 1
export const SUPPORTED_VERSIONS: readonly number[] = [1]

/** WebSocket subprotocol for control and data in both directions. */
export const SUBPROTOCOL = 'deltawatch.v1.json'
/** Read-only WebSocket subprotocol, one CloudEvent per message. */
export const SUBPROTOCOL_CLOUDEVENTS = 'cloudevents.json'

/** The newest version both sides speak, or undefined when there is none. */
export function negotiateVersion(offered: readonly number[]): number | undefined {
  return SUPPORTED_VERSIONS.filter((v) => offered.includes(v)).toSorted((a, b) => b - a)[0]
}
