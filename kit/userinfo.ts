// Addresses as they may be shown: without the user and password somebody wrote into them.
// Owns: taking them out of any text, also of a half address that a comma cut in two.
// Refuses: judging addresses. It rather takes out too much: what it is given goes into messages, never into connections.

/** `nats://u:pw@h:4222` becomes `nats://***@h:4222`; `h:4222` stays. Several addresses in one text are all treated. */
export function withoutUserinfo(text: string): string {
  return text
    .replaceAll(/([a-z][a-z0-9+.-]*:\/\/)?[^\s"',]*@/gi, '$1***@')
    .replaceAll(/(:\/\/)[^\s"',:/@[]*:(?!\d{1,5}(?:[\s"',/?#]|$))[^\s"',]+/g, '$1***')
}
