"""Each project as a read-only git remote over smart HTTP, and its whole history as a bundle.

A fetch passes `api` (HTTP), `protocol` (parses the request), `negotiation` (finds common and missing commits with
`walk`) and `packs` (streams the objects).
"""
