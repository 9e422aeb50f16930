#compdef objfs

_objfs_completion() {
  eval $(env _TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" _OBJFS_COMPLETE=complete_zsh objfs)
}

compdef _objfs_completion objfs
