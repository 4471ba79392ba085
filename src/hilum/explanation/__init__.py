"""Heat maps by autograd, as an oracle and for networks whose head has another shape."""
