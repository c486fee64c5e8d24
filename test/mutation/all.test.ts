// Is the fault suite blind? Every mutation is convicted, and the whole product acquitted of the very same scenarios.

import { describe, it } from 'node:test'
import { acquit, convict } from './convict.ts'
import { MUTATIONS } from './mutations.ts'

describe('mutations', () => {
  for (const mutation of MUTATIONS) {
    it(`convicted: ${mutation.about}`, (t) => convict(mutation, t))
    it(`acquitted: the whole product, of ${mutation.scenario}`, (t) => acquit(mutation, t))
  }
})
