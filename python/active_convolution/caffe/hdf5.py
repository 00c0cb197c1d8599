"""Until the last user of these is gone."""


def member(group, name):
    return group[name]


def checked(dataset):
    return dataset
