"""Networks that torchvision lacks: LeNet-5, AlexNet of 2012, plain nets, forms for small images, our own encoder."""
