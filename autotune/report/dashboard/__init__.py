"""The notes and pictures that optuna-dashboard shows of each study.

| file | holds |
|---|---|
| note_writer | puts notes into the storage during a run; ``refresh_notes``, those of ended runs |
| listing | names for people in the list of studies, without our bookkeeping |
| notes | the text of a note, in Markdown |
| stored_note | a note as optuna-dashboard keeps it, which need not be installed |
| study_picture | the picture of a study's best trial |
| artifacts | the folder of pictures, and hanging one on a trial |
"""
