"""Code shared by all stages: spec, schedule, noise, decision, verdict, bundle and errors. Imports no other folder."""
