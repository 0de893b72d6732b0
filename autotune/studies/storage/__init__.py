"""Optuna's storages: opened, written in transactions, read quickly, looked after.

All that touches Optuna's private names and tables is here, tried with one version (``open.TRIED``).

``url``           the text of ``--storage``, parsed, without its password
``open``          opening a storage of any kind; the checks of Optuna's version and of the disk
``retry``         the errors that a storage may raise, and trying again
``database``      SQLite and PostgreSQL: opening, and Optuna's storage with a quicker reading
``schema``        Optuna's private tables: by name, found, made once, their version
``protocol``      the moments of a trial that are kept whole: the base class and its types
``transactions``  the same in a database, by SQL; the ids and the writer of a study
``journal``       Optuna's journal: a file that survives its writers, and the same in it
``raw``           studies and trials as they are written, whoever wrote them, none of them checked
``watch``         whether a storage in use is still the one that was opened
``summaries``     every study in a handful of queries, while others write
``maintenance``   check, backup, upgrade
"""
