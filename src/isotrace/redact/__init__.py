"""Named redactors: what must not be recorded is taken out before anything is written.

`forms` has the table of known tokens, `finders` the redactors that are built in, `rules` and `config` those
of a project, `engine` what becomes of one text, `values` and `pieces` of whole values and of streams, and
`redaction` puts the redactors of one run together.
"""
