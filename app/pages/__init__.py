"""One module a page: data, train, classify, analyse, models."""
