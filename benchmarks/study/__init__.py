"""The study of methods: plan, images, adapters, training, results and their comparison (`benchmarks.method_study`)."""
