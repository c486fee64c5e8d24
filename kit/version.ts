// The version of this program, from package.json, the only place where it is written.
// Owns nothing else; the version of the wire is protocol/version.ts.

import manifest from '../package.json' with { type: 'json' }

export const VERSION: string = manifest.version
