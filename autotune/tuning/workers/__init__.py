"""A run's workers: processes with a device each, here or on a cluster's nodes.

launcher.py         which workers a run has, and on which devices; on this machine or through Ray
launch_ray.py       workers as actors of a Ray cluster
supervisor.py       the parent's end: starts workers, listens, starts again those that die
protocol.py         the messages between parent and worker, and the worker's end (ParentChannel)
worker_process.py   the worker's process: its device, and the parent's orders
worker_loop.py      the loop: ask ahead, have compiled, have measured, write
child_calls.py      what the loop asks of the device's process
scheduler.py        which study is asked next
"""
