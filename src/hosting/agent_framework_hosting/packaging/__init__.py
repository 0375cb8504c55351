"""Packs an agent with all that it imports into an artefact for a serverless platform: `af-hosting package`.

`platforms` says what a platform is and `aws_lambda` what Lambda is; the rest is the same everywhere. `building` has the
order of it: `sources` (the operator's files), `ours` (our wheels, published or not), `installing`, `distributions` and
`pruning` (what of them goes in), `bytecode`, `artefact` (written, always the same bytes), `report` and `checking`.

Nothing here is imported by a host.
"""
