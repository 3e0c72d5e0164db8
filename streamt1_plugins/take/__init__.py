"""Takes: a video made chunk by chunk by a person, who may overrule the policies (`StreamPipeline.take`)."""
