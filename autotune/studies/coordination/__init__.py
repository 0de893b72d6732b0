"""Workers that share studies through a storage, without a service of their own.

``claims``      taking trials so that no two workers measure the same
``leases``      which workers are alive, and which trials the dead have left
``study_view``  the trials of a study, read again and again at little cost
"""
