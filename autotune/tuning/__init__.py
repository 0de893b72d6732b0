"""Tuning: from settings to studies, from studies to engine files.

A run's files, from the outside in:

session.py          a run: its workers, storage and studies, from start to end; its engine files
run_models.py       its models: which are served, the plans of each, what is left out
run_report.py       what it brought, in all and for each model
serving.py          which engines serve a model, and the problem of each
jobs.py             settings → problems of each batch size; what users have today (Incumbent)
warm_start.py       configs from files, of users and of installed engines, worth an early trial
open_studies.py     a run's studies are made or mended by the parent, and joined by its workers
tuning_study.py     TuningStudy: plan, progress, and ``advance``, which acts on a study's state
observer.py         the parent's loop (RunMonitor), and whoever it tells (RunObserver)
finished.py         a run of which nothing is left, found before workers start
finals.py           a study's finalists, measured again, interleaved
time_line.py        what devices did, and what they waited for
cross_routing.py    the winners under one routing, measured under another
rescue.py           a storage that is lost under a run: noticed, what is known written anew
engine_output.py    what a study says to an engine (Result), and the engines' files
file_writer.py      the files of a run, written while it goes on
filled.py           entries for the batch sizes that a run did not tune
stored_results.py   the same of a storage, without running anything
study_words.py      what people call a study: model, split, dtype, batch size
workers/            processes with a device each: launched, supervised, asking, writing results
compile_service/    compiles ahead of the devices
processes/          processes that may be killed, calls on them, signals
recording/          ``record``: a whole space, measured        comparison/  ``bench``, ``compare``

The way of a trial. Steps 2 to 9 are in the worker's process, 5 and 6 in processes below it.

 1  a study is opened, its warm starts are queued          open_studies
 2  a worker chooses the study to ask                      workers/scheduler
 3  the study's state: search, last tries, finished?       tuning_study.advance, studies/lifecycle
 4  configs are proposed and claimed as trials             studies/coordination/claims, the sampler
 5  their binaries are compiled; which ones, our spec
    says or the child asks the engine's own call           compile_service/, backends/gpu/launches
 6  the child verifies and times; the measurer decides
    the outcome: ok, wrong result, out of resources …      processes/child, backends/*/measurer
    until it has clearly lost                              studies/search/pruning
 7  the result becomes a record and an end                 studies/trial_record
 8  the end is written, many in one transaction            studies/trial_io, studies/storage
 9  the parent hears of it                                 workers/worker_process, protocol
10  and tells displays, notes and the writer of files      observer, file_writer
11  finalists are measured again, the winner chosen; of
    a finished study while others are searched             finals, studies/selection
12  engine files are written                               file_writer, engine_output

Where a fact lives. The storage is the only state that runs share; all else can be lost.

fact                                   storage            worker              parent
trials: config, samples, outcome       yes                StudyView, cached   StudyView by reports
results on their way                   –                  ResultWriter        –
who works on a trial, who is alive     leases, signature  Lease, Census       –
why a study ended                      attribute          TuningStudy.end     TuningStudy.end
visits, which studies are finished     –                  StudyScheduler      –
workers: alive, died, restarted        –                  –                   WorkerSupervisor
binaries: order, results               cache file         CompileClient       CompilePool's process
what an engine launches by itself      attribute          its child           StudyPlan
finalists, crossings                   attributes         measures them       TuningStudy.finalists
incumbents, spaces, seeds              – (made anew)      StudyPlan           StudyPlan
engine files                           – (made anew)      –                   FileWriter

Workers meet in the storage, so several runs may share a study; the parent decides nothing about
trials, but has what one process alone must do: the display, the files, the compile pool.
"""
