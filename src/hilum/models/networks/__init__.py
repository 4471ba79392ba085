"""Networks that torchvision lacks: LeNet-5, multilayer perceptron, plain nets and the package's own small encoder."""
