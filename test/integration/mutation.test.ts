// A share of the mutation suite small enough for every run; `npm run test:mutation` has all of it.

import { describe, it } from 'node:test'
import { convict } from '../mutation/convict.ts'
import { MUTATIONS } from '../mutation/mutations.ts'

describe('mutations', () => {
  for (const mutation of MUTATIONS.filter(({ quick }) => quick === true)) {
    it(`convicted: ${mutation.about}`, (t) => convict(mutation, t))
  }
})
