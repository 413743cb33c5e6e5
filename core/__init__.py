"""What every stage shares: spec, schedule, noise, decision, verdict, bundle, errors. Imports no other folder."""
