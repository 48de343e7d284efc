"""A store that a fleet shares: the truth lies in an object store, each machine has verified copies of what it needs.

    aliases.json                        the alias document, replaced only if it is still the one that was read
    models/NAME/VERSION.tar             one version, written once; an object is there whole or not at all
    changes/WHEN.REVISION.NAME.HASH.json    one change of the log
    .conditional                        with what it was found out whether the store keeps conditions

`store.py` puts them together; `journal.py` is the document and the log, `versions.py` the versions and their copies,
`s3.py` and `folder.py` are the places where objects can lie (`objects.py` says what one has to do).
"""
