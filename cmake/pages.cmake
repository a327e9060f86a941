# Makes the manual pages and the shells' completions by asking the program for them.
# cmake -DPROGRAM=... -DEMULATOR=... -DFOLDER=... -DVERBS=a,b -DSHELLS=bash,zsh -P pages.cmake
string(REPLACE "," ";" VERBS "${VERBS}")
string(REPLACE "," ";" SHELLS "${SHELLS}")
file(MAKE_DIRECTORY ${FOLDER})

function(say file)
  execute_process(COMMAND ${EMULATOR} ${PROGRAM} ${ARGN} OUTPUT_FILE ${FOLDER}/${file} RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${PROGRAM} ${ARGN}: ${result}")
  endif()
endfunction()

say(longscan.1 man)
foreach(verb ${VERBS})
  say(longscan-${verb}.1 man ${verb})
endforeach()
foreach(shell ${SHELLS})
  say(longscan.${shell} completion ${shell})
endforeach()
