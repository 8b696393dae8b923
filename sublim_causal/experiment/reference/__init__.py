"""The whole experiment for one seed and one arm, in plain torch: read `loop` first.

`images` and `texts` say how a seed begins under either task, `interventions` what each does to a
vector. Slow and simple: an ``nn.Module``, Adam, autograd, one seed at a time, float64. The package
trains many seeds at once (`sublim_causal.experiment.distillation`), and tests hold the two equal.
Written from the formulas; shared with the rest of the package are the options of interventions, the
random streams, the data and the language.
"""
